"""Questions about long videos: which frames strategies choose for them, and how well a model answers from those."""
