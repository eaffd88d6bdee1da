"""The commands: each module reads one command's arguments, makes one library call and prints what came of it.

What a command needs of the library it imports when it runs, so that `--help` and `--version` are quick.
"""
