"""The two-tower form of YouTube's candidate generation: the mean of the history through an MLP.

Covington, Adams and Sargin 2016 (RecSys), section 3.2 and figure 3; a base model of MicRec (Xie et al. 2022, Table 2).
"""

from pipeline.config import TowerConfig
from towers.blocks import MLP
from towers.history import History
from towers.keras import keras, tf


class YoutubeDnnUserTower(keras.layers.Layer):
    """u = MLP(Concat(mean of the history, other user fields)); the order of the history is not seen.

    Args:
      config: `hidden` and `dropout` are read.
      item_width: W, the size of one history item's concatenated field embeddings.
    """

    def __init__(self, config: TowerConfig, item_width: int, name: str = "user_tower") -> None:
        super().__init__(name=name)
        self.mlp = MLP(config.hidden, config.dropout, name="user_mlp")

    def call(self, history: History, user_fields: tf.Tensor | None, training: bool = False) -> tf.Tensor:
        """Encode B users.

        Args:
          history: of the users, W per item.
          user_fields: float [B, V], the user's other fields, or None when there are none.
        Returns: float [B, hidden[-1]]. An empty history has the mean 0.
        """
        mean = history.mean()
        if user_fields is not None:
            mean = tf.concat((mean, user_fields), axis=1)
        return self.mlp(mean, training=training)
