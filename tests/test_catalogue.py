"""Nothing of the catalogue is missing, and every piece of it is in the table that checks it."""

from __future__ import annotations

import inspect

import pytest
from battery import LAYERS
from optim_table import TABLE

import xpnn
from xpnn import activations, data, initializers, layers, losses, metrics, optim
from xpnn import functional as F
from xpnn.layers import Layer
from xpnn.optim import schedules

CATALOGUE = {
    layers: """Activation Add AlphaDropout AutoEncoder Average AvgPool1D AvgPool2D
        BatchNorm Bidirectional Concatenate Conv1D Conv2D ConvPool2D ConvTranspose1D
        ConvTranspose2D Dense Dot DotProductAttention DropConnect Dropout Embedding
        ExpandDims Flatten GRU GRUCell GaussianNoise GlobalAvgPool GlobalMaxPool
        GroupNorm InstanceNorm LSTM LSTMCell Lambda LayerNorm MaxPool1D MaxPool2D
        Maximum Maxout MultiHeadAttention Multiply PReLU Parallel Permute
        PositionalEncoding RBM RMSNorm RNN RNNCell Reshape Residual ResidualBlock
        Softmax SparseEvolution TransformerDecoderLayer TransformerEncoderLayer
        UpSample2D WaveNetBlock ZeroPad2D""",
    activations: """affine elliot elu exponential gelu hard_sigmoid leaky_relu linear
        log_softmax mish relu selu sigmoid silu softmax softplus softsign
        symmetric_elliot tanh ultra_fast_sigmoid""",
    losses: """binary_cross_entropy binary_cross_entropy_with_logits binary_hinge
        categorical_cross_entropy categorical_hinge cosine cross_entropy hellinger huber
        kl_divergence mean_absolute_error mean_squared_error nce negative_sampling
        root_mean_squared_error vae_elbo""",
    optim: """AMSGrad Adadelta Adagrad Adam AdamW Adamax Lion NAdam RAdam RMSprop SGD
        clip_by_global_norm clip_by_norm clip_by_value""",
    schedules: "Constant CosineWarmup Exponential King Noam OneCycle ReduceOnPlateau Step",
    metrics: """accuracy binary_accuracy confusion_matrix error_rate f1 mean_absolute_error
        precision r2 recall top_k_accuracy""",
    F: "col2im conv_output_shape dilate fans im2col pad same_padding",
    data: "MinMaxScaler StandardScaler minibatches one_hot unhot",
}
"""What the seeds offered, and what their users would look for next."""

INITIALIZERS = """glorot_normal glorot_uniform he_normal he_uniform identity lecun_normal
        lecun_uniform normal ones orthogonal truncated_normal uniform zeros""".split()
ALIASES = "mse rmse mae bce cce scce kld hed".split()


@pytest.mark.parametrize(
    ("module", "name"), [(m, n) for m, names in CATALOGUE.items() for n in names.split()]
)
def test_everything_exists_and_is_listed(module: object, name: str) -> None:
    assert name in module.__all__
    assert inspect.getdoc(getattr(module, name))


@pytest.mark.parametrize("name", CATALOGUE[activations].split())
def test_activations_are_known_by_name(name: str) -> None:
    assert activations.get(name) is getattr(activations, name)


@pytest.mark.parametrize("name", [*CATALOGUE[losses].split(), *ALIASES])
def test_losses_are_known_by_name(name: str) -> None:
    if name in ("nce", "negative_sampling"):  # of hidden units, weights and noise: no loss of fit
        assert callable(getattr(losses, name))
    else:
        assert callable(losses.get(name))


@pytest.mark.parametrize("name", INITIALIZERS)
def test_initializers_are_known_by_name(name: str) -> None:
    assert initializers.get(name)((3, 3)).shape == (3, 3)


def test_every_layer_has_a_row() -> None:
    made = {type(part) for row in LAYERS for part in row.make().layers()}
    public = {getattr(layers, name) for name in layers.__all__}
    concrete = {
        c
        for c in public
        if inspect.isclass(c) and issubclass(c, Layer) and c not in (Layer, layers.Unsupervised)
    }
    assert {c.__name__ for c in concrete - made} == set()


def test_every_optimizer_has_a_row() -> None:
    public = {getattr(optim, name) for name in optim.__all__}
    classes = {c for c in public if inspect.isclass(c) and issubclass(c, optim.Optimizer)}
    assert classes - {row[0] for row in TABLE.values()} == {optim.Optimizer}


def test_public_names_of_the_front_door() -> None:
    for name in ("set_device", "set_dtype", "get_dtype", "set_seed", "get_rng", "set_rng"):
        assert name in xpnn.__all__
