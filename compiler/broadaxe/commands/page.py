"""The pages of --help: what a command does, what it takes, examples, exit codes and what to run next.

They are made of the command's docstring, whose sections are indented below their names, and of its parameters. Words alone,
80 columns: they read the same on a terminal and in a file.
"""

from __future__ import annotations

import re
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from broadaxe.commands.usage import USAGE, no_command, placed

WIDTH = 80
_SECTION = re.compile(r"^([A-Z][\w ]+):\n(?=    )", re.MULTILINE)


def parts(docstring: str) -> tuple[str, list[tuple[str, str]]]:
    """A docstring's text, and its sections by name."""
    head, *rest = _SECTION.split(docstring)
    sections = [(name, body.strip("\n")) for name, body in zip(rest[::2], rest[1::2], strict=True)]
    return head.strip(), sections


def examples(command: Any) -> list[str]:
    """The lines of a command's examples."""
    sections = dict(parts(command.help or "")[1])
    return [line.strip() for line in sections.get("Examples", "").splitlines()]


class Command(TyperCommand):
    """A command whose page shows its docstring's sections last."""

    def get_help(self, ctx: Any) -> str:
        ctx.terminal_width = ctx.max_content_width = WIDTH
        return str(super().get_help(ctx))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        try:
            return list(super().parse_args(ctx, args))
        except USAGE as error:
            raise placed(error, ctx) from error.__cause__

    def get_short_help_str(self, limit: int = 0) -> str:
        """The first sentence, whole."""
        return re.split(r"\.(?:\s|$)|\n\n", parts(self.help or "")[0])[0].replace("\n", " ")

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Arguments and the options that are needed, then the others."""
        pieces = []
        for parameter in self.get_params(ctx):
            name = parameter.metavar or parameter.name.upper()
            if parameter.param_type_name == "argument":
                pieces.append(name if parameter.required else f"[{name}]")
            elif parameter.required:
                pieces.append(f"{parameter.opts[0]} {name}")
        return [*pieces, "[OPTIONS]"]

    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        write_text(self.help or "", formatter)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        write_parameters(self.get_params(ctx), formatter)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        write_sections(self.help or "", formatter)


def write_text(docstring: str, formatter: Any) -> None:
    """What stands above the sections of a docstring."""
    formatter.write_paragraph()
    with formatter.indentation():
        formatter.write_text(parts(docstring)[0])


def write_sections(docstring: str, formatter: Any) -> None:
    """The sections of a docstring, as they are broken into lines there."""
    for name, body in parts(docstring)[1]:
        with formatter.section(name):
            for line in body.splitlines():
                formatter.write(f"{line[2:] if line.startswith('    ') else line}\n")


def write_parameters(parameters: list[Any], formatter: Any) -> None:
    """What a command takes, as two lists."""
    shown = [p for p in parameters if not getattr(p, "hidden", False)]
    for title, kind in (("Arguments", "argument"), ("Options", "option")):
        rows = [(_names(p), _described(p)) for p in shown if p.param_type_name == kind]
        if rows:
            with formatter.section(title):
                formatter.write_dl(rows)


def _names(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return str(parameter.metavar or parameter.name.upper())
    names = ", ".join(sorted(parameter.opts, key=len))
    if parameter.secondary_opts:
        names += f" / {', '.join(parameter.secondary_opts)}"
    return names if parameter.is_flag else f"{names} {parameter.metavar or parameter.name.upper()}"


def _described(parameter: Any) -> str:
    default = parameter.default
    remarks = ["required"] if parameter.required and parameter.param_type_name == "option" else []
    if default is not None and default not in ((), "") and not callable(default) and not parameter.is_flag:
        remarks.append(f"default: {default}")
    help = parameter.help or ""
    return f"{help}  [{'; '.join(remarks)}]" if remarks else help


class Commands(TyperGroup):
    """The commands in groups, in the order of the work; one that there is not is an error that names the nearest."""

    def get_help(self, ctx: Any) -> str:
        ctx.terminal_width = ctx.max_content_width = WIDTH
        return str(super().get_help(ctx))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args and self.no_args_is_help and not ctx.resilient_parsing:
            typer.echo(ctx.get_help())
            raise typer.Exit
        try:
            return list(super().parse_args(ctx, args))
        except USAGE as error:
            raise placed(error, ctx) from error.__cause__

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return ["COMMAND", "..."]

    def list_commands(self, ctx: Any) -> list[str]:
        """In the order in which they are registered, which not every version keeps."""
        return [*self.commands]

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and not ctx.resilient_parsing and self.get_command(ctx, args[0]) is None:
            raise no_command(ctx.command_path, args[0], self.list_commands(ctx))
        return super().resolve_command(ctx, args)

    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        write_text(self.help or "", formatter)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        write_sections(self.help or "", formatter)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """The commands first: they are what one looks for."""
        self.format_commands(ctx, formatter)
        write_parameters(self.get_params(ctx), formatter)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        groups: dict[str, list[tuple[str, str]]] = {}
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        for name, command in commands:
            if command is not None and not command.hidden:
                title = getattr(command, "rich_help_panel", None)
                row = (name, command.get_short_help_str(WIDTH))
                groups.setdefault(title if isinstance(title, str) else "Commands", []).append(row)
        widest = max((len(name) for name, _ in commands), default=0)
        for title, rows in groups.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(widest), text) for name, text in rows])
