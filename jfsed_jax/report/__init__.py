"""Pages and figures from saved files."""
