"""The paper's recipe."""
