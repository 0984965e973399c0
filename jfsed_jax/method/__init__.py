"""The paper in pure JAX: losses, models, objectives, schedules, state, step, augmentation."""
