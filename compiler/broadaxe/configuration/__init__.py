"""Settings: YAML files with line numbers, pydantic models whose errors are in our words, commented defaults."""
