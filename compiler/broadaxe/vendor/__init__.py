"""The vendor's HLS tools: projects for them, runs of them, what their reports say."""
