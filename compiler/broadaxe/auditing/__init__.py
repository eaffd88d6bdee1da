"""Other tools' accumulators: what they declare, proven or shown to overflow, and proven widths in their own terms."""
