"""An optimiser of one's own: AdamW, its rate warmed up and then lowered along a cosine.

jfsed-jax train --config examples/adamw.py:small --data DIR --workdir W
"""

from jfsed_jax.configs import pts


def get_config(size: str = "small"):
    config = pts.get_config(size)
    config.system = "pts_adamw"
    epochs = config.get_ref("epochs").to_float()  # --config.epochs=N stretches the schedule
    config.optimiser.name = "adamw"
    config.optimiser.arguments = dict(weight_decay=1e-2)
    # The steps of a schedule are epochs; its values are times optimiser.learning_rate.
    config.optimiser.schedule = "warmup_cosine_decay_schedule"
    config.optimiser.schedule_arguments = dict(
        init_value=0.0, peak_value=1.0, warmup_steps=0.1 * epochs, decay_steps=epochs
    )
    return config
