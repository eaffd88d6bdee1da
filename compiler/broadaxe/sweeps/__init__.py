"""Many quantizations of one network, and which of them are worth having."""
