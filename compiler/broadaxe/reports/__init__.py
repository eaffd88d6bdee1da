"""What people look at: which layer needs which accumulator, and why."""
