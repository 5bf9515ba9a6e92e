"""Which packages and files are shipped, and what they need; everything else is in pyproject.toml."""

from setuptools import find_packages, setup

EXAMPLES = ["matplotlib>=3.8", "scikit-learn>=1.5", "tqdm>=4.66"]

# Not needed to run on the CPU, so not required. On Linux, PyTorch's CUDA wheels already bring triton.
GPU = ["triton>=3.6", "cupy-cuda13x>=13"]

CVXPY = ["cvxpy>=1.9"]  # only for qplayer_gpu.compat.CvxpyLayer
JAX = ["jax>=0.5"]  # only for qplayer_gpu.jax

DOCS = [
    "furo>=2025.12",
    "myst-parser>=4",
    "sphinx>=8",
    "sphinx-copybutton>=0.5",
    "sphinx-mathjax-offline>=0.0.2",  # MathJax itself: a reader of the site needs no network
]

DEV = [
    *CVXPY,
    *DOCS,
    *EXAMPLES,
    *JAX,
    "build>=1.2",
    "cupy-cuda13x>=13; sys_platform == 'linux'",  # with the next one, compiles the CUDA kernels without a GPU
    "hypothesis>=6.100",
    "mypy>=1.15",
    "nvidia-cuda-nvrtc>=13,<14; sys_platform == 'linux'",
    "piqp>=0.5",
    "pre-commit>=4",
    "proxsuite>=0.7",
    "pytest>=8.3",
    "ruff>=0.12",
    "scipy>=1.13",
    "setuptools>=77",
    "triton>=3.6; sys_platform == 'linux'",  # its interpreter runs the GPU kernels' tests
]

setup(
    # qplayer_gpu/kernels is a link to kernels/: setuptools follows it and ships the files behind it.
    packages=find_packages(include=["qplayer_gpu", "qplayer_gpu.*"]),
    package_data={
        "qplayer_gpu": ["py.typed"],
        "qplayer_gpu.kernels": ["**/*.cu", "**/*.cuh", "**/*.h", "**/*.cpp"],
    },
    # torch brings the last two
    install_requires=["torch>=2.9,<3", "numpy>=1.26,<3", "filelock>=3.12", "typing_extensions>=4.10"],
    extras_require={"examples": EXAMPLES, "gpu": GPU, "cvxpy": CVXPY, "jax": JAX, "docs": DOCS, "dev": DEV},
)
