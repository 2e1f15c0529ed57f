"""What a run takes from its network where it does not say it itself: each family needs its own.

`training.Run` says what the numbers mean. A row of `NETWORKS` names its recipe.
"""

RECIPES = {
    "fast": {
        "optimizer": "sgd", "batch_size": 512, "learning_rate": 0.75, "norm_bias_rate": 64.0,
        "warmup": 0.23, "momentum": 0.85, "weight_decay": 1.3e-3, "label_smoothing": 0.2, "crop": 2,
    },
    "resnet": {
        "optimizer": "sgd", "batch_size": 64, "learning_rate": 0.14, "norm_bias_rate": 1.0,
        "warmup": 0.2, "momentum": 0.9, "weight_decay": 5e-4, "label_smoothing": 0.0, "crop": 1,
    },
    "photographs": {
        "optimizer": "sgd", "batch_size": 32, "learning_rate": 0.05, "norm_bias_rate": 1.0,
        "warmup": 0.2, "momentum": 0.9, "weight_decay": 5e-4, "label_smoothing": 0.1, "crop": 8,
    },
    "fine-tuning": {
        "optimizer": "sgd", "batch_size": 32, "learning_rate": 0.01, "norm_bias_rate": 1.0,
        "warmup": 0.2, "momentum": 0.9, "weight_decay": 1e-4, "label_smoothing": 0.1, "crop": 8,
    },
    "transformer": {
        "optimizer": "adamw", "batch_size": 128, "learning_rate": 1e-3, "norm_bias_rate": 1.0,
        "warmup": 0.15, "momentum": 0.9, "weight_decay": 0.05, "label_smoothing": 0.1, "crop": 4,
    },
}  # fmt: skip
