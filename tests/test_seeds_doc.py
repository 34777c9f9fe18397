"""docs/seeds.md: every name there is, every name is there, every example runs."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest

DOCUMENT = Path(__file__).parent.parent / "docs" / "seeds.md"
TEXT = DOCUMENT.read_text(encoding="utf-8")
TABLES, EXAMPLES = TEXT.split("\n# Their examples, in xpnn\n")
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in TABLES.splitlines()
    if line.startswith("|") and not line.startswith(("|---", "| there"))
]

# What the three libraries offer, by their documents and their sources.
SEEDS = {
    "npdl": """
        Layer forward backward connect_to params grads param_grads to_json from_json Linear Dense
        Softmax Dropout Flatten DimShuffle Convolution MaxPooling MeanPooling BatchNormal
        Embedding Recurrent SimpleRNN GRU LSTM BatchLSTM Activation derivative Sigmoid Tanh ReLU
        Elliot SymmetricElliot SoftPlus SoftSign get Initializer Zero One Uniform Normal
        LecunUniform GlorotUniform GlorotNormal HeUniform HeNormal Orthogonal decompose_size
        Objective MeanSquaredError MSE HellingerDistance HeD BinaryCrossEntropy BCE
        SoftmaxCategoricalCrossEntropy SCCE Optimizer SGD Momentum NesterovMomentum Adagrad
        RMSprop Adadelta Adam Adamax npdl_clip decay lr_min lr_max Model Model.add compile fit
        predict evaluate accuracy one_hot unhot get_rng set_rng set_seed get_dtype set_dtype
    """,
    "numpy-ml": """
        LayerBase hyperparameters parameters gradients derived_variables retain_derived freeze
        unfreeze flush_gradients update set_params summary Flatten Add Multiply WrapperBase
        init_wrappers ModuleBase FullyConnected Softmax SparseEvolution Dropout BatchNorm1D
        BatchNorm2D reset_running_stats LayerNorm1D LayerNorm2D Conv1D Conv2D Deconv2D Pool2D
        Embedding lookup DotProductAttention MultiHeadedAttentionModule RNN RNNCell LSTMCell LSTM
        BidirectionalLSTM RBM CD_update reconstruct SkipConnectionIdentityModule
        SkipConnectionConvModule WavenetResidualModule BernoulliVAE WGAN_GP Word2Vec
        ActivationInitializer grad grad2 Sigmoid HardSigmoid Tanh ReLU LeakyReLU ELU SELU GELU
        Identity Affine SoftPlus Exponential WeightInitializer truncated_normal glorot_uniform
        glorot_normal he_uniform he_normal calc_fan SquaredError CrossEntropy VAELoss WGAN_GPLoss
        NCELoss DiscreteSampler OptimizerBase OptimizerInitializer SGD AdaGrad RMSProp Adam
        clip_norm SchedulerBase SchedulerInitializer ConstantScheduler ExponentialScheduler
        NoamScheduler KingScheduler gaussian_cdf OneHotEncoder Standardizer minibatch pad1D pad2D
        calc_pad_dims_1D calc_pad_dims_2D calc_conv_out_dims dilate im2col col2im conv1D conv2D
        conv2D_naive deconv2D_naive
    """,
    "yadll": """
        Layer to_conf from_conf get_params get_output get_reguls reguls output_shape InputLayer
        ReshapeLayer FlattenLayer Activation Network.add DenseLayer LogisticRegression Dropconnect
        Dropout AlphaDropout BatchNormalization ConvLayer PoolLayer ConvPoolLayer RNN GRU LSTM
        BNLSTM UnsupervisedLayer AutoEncoder RBM get_unsupervised_cost get_encoded_input
        unsupervised_training get_activation sigmoid ultra_fast_sigmoid tanh relu elu selu linear
        softmax softplus initializer constant uniform normal glorot_uniform glorot_normal
        He_uniform He_normal selu_normal orthogonal mean_squared_error root_mean_squared_error
        mean_absolute_error binary_hinge_error categorical_hinge_error binary_crossentropy_error
        categorical_crossentropy_error kullback_leibler_divergence sgd momentum nesterov_momentum
        adagrad rmsprop adadelta adam adamax nadam grad_clipping Network Model train predict
        pretrain patience categorical_accuracy categorical_error binary_accuracy binary_error
        get_layer has_unsupervised_layer save_model load_model save_params load_params
        Hyperparameters DlException DataFormatException NoDataFoundException
        NoNetworkFoundException one_hot_encoding one_hot_decoding normalize apply_normalize
        revert_normalize standardize apply_standardize revert_standardize Data mnist_loader
        alphabet_loader to_float_X shared_variable format_sec timer
    """,
}


def theirs() -> dict[str, set[str]]:
    """Return the names in the first columns, by library."""
    found: dict[str, set[str]] = {name: set() for name in SEEDS}
    for row in ROWS:
        for part in row[0].split("; "):
            if part != "—":
                library, _, names = part.partition(" ")
                found[library] |= set(re.findall(r"`([^`]+)`", names))
    return found


def ours() -> list[str]:
    """Return the names of xpnn, wherever they stand in the text."""
    return sorted(set(re.findall(r"`(xpnn(?:\.\w+)+)", TEXT)))


def examples() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", EXAMPLES, flags=re.MULTILINE | re.DOTALL)


def resolve(name: str) -> Any:
    """Return what a dotted name stands for: a module, or something inside one."""
    parts = name.split(".")
    found = importlib.import_module(parts[0])
    for i, part in enumerate(parts[1:], 2):
        if not hasattr(found, part):
            importlib.import_module(".".join(parts[:i]))
        found = getattr(found, part)
    return found


def test_the_document_has_names_and_examples() -> None:
    assert len(ROWS) > 120
    assert len(ours()) > 150
    assert len(examples()) > 15


def test_every_row_says_where_a_name_went() -> None:
    for row in ROWS:
        assert len(row) == 3, row
        assert "`" in row[1] or row[1] == "—", row


@pytest.mark.parametrize("library", SEEDS)
def test_every_name_of_a_library_is_in_the_tables(library: str) -> None:
    assert theirs()[library] == set(SEEDS[library].split())


@pytest.mark.parametrize("name", ours())
def test_every_name_of_xpnn_is_there(name: str) -> None:
    resolve(name)


def test_a_name_that_is_not_there_is_noticed() -> None:
    with pytest.raises(ImportError):
        resolve("xpnn.layers.Dens")


@pytest.mark.parametrize("code", examples(), ids=lambda code: code.strip().splitlines()[-1][:50])
def test_every_example_runs(code: str) -> None:
    exec(compile(code, str(DOCUMENT), "exec"), {"__name__": "__main__"})
