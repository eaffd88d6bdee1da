"""Folding: how many lanes each kernel has, and what that costs in cycles."""
