"""The ICAN two-tower without its multi-domain part, the base model of MicRec (Xie et al. 2022, eq. 6)."""

from pipeline.config import TowerConfig
from towers.blocks import MLP, TransformerBlock, on_rows
from towers.history import History
from towers.keras import keras, tf
from towers.randomness import Dropout


class IcanUserTower(keras.layers.Layer):
    """u = MLP(Concat(Flatten(Transformer(history)), other user fields)).

    Args:
      config: `hidden`, `heads`, `blocks`, `dropout`, `history_length` L and `history_dim` are read.
      item_width: W, the size of one history item's concatenated field embeddings.
    """

    def __init__(self, config: TowerConfig, item_width: int, name: str = "user_tower") -> None:
        super().__init__(name=name)
        self.width = config.history_dim or item_width
        self.project = keras.layers.Dense(self.width, name="history_projection") if config.history_dim else None
        self.positions = self.add_weight(
            "positions",
            (config.history_length, self.width),
            initializer=keras.initializers.TruncatedNormal(stddev=0.02),
        )
        self.blocks = [
            TransformerBlock(self.width, config.heads, config.dropout, name=f"transformer_{i}")
            for i in range(config.blocks)
        ]
        self.dropout = Dropout(config.dropout)
        self.mlp = MLP(config.hidden, config.dropout, name="user_mlp")

    def call(self, history: History, user_fields: tf.Tensor | None, training: bool = False) -> tf.Tensor:
        """Encode B users.

        Args:
          history: of the users, W per item, oldest first, the most recent item last.
          user_fields: float32 [B, V], the user's other fields, or None when there are none.
        Returns: float32 [B, hidden[-1]].
        """
        x, present = history.items(), history.present
        x = x if self.project is None else on_rows(self.project, x)  # (B, L, W) -> (B, L, width)
        x = self.dropout(x + self.positions, training=training)
        for block in self.blocks:
            x = block(x, present, training=training)
        x = x * tf.cast(present, x.dtype)[..., tf.newaxis]
        flat = tf.reshape(x, (-1, x.shape[1] * self.width))  # (B, L, width) -> (B, L*width)
        if user_fields is not None:
            flat = tf.concat((flat, user_fields), axis=1)
        return self.mlp(flat, training=training)


class IcanItemTower(keras.layers.Layer):
    """d = MLP(concatenated field embeddings)."""

    def __init__(self, config: TowerConfig, name: str = "item_tower") -> None:
        super().__init__(name=name)
        self.mlp = MLP(config.hidden, config.dropout, name="item_mlp")

    def call(self, embeddings: tf.Tensor, training: bool = False) -> tf.Tensor:
        """float32 [n, W] -> [n, hidden[-1]]."""
        return self.mlp(embeddings, training=training)
