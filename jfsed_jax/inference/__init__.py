"""From a checkpoint to posteriors, events and scores."""
