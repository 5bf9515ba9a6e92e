"""The package works from a checkout and from every way of installing it, with kernels/ as qplayer_gpu.kernels."""

import importlib.metadata
import json
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import torch

import qplayer_gpu

ROOT = Path(__file__).parents[1]

# -S hides the environment's own install of qplayer_gpu; the other packages of the environment are then added by hand.
PROBE = f"""
import importlib.metadata, json, site, sys
site.addsitedir(sys.argv[1])
sys.path.append({str(Path(torch.__file__).parents[1])!r})
import qplayer_gpu, qplayer_gpu.kernels.interface, qplayer_gpu.kernels.reference
print(json.dumps([qplayer_gpu.__file__, qplayer_gpu.kernels.__file__]))
"""


def run(*command, cwd):
    done = subprocess.run([sys.executable, *map(str, command)], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def files_of(folder):
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of the files that git has, or would take."""
    try:
        names = subprocess.check_output(["git", "ls-files", "-coz", "--exclude-standard"], cwd=ROOT, text=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not in a git checkout")
    copy = tmp_path_factory.mktemp("checkout")
    for name in names.rstrip("\0").split("\0"):
        if (ROOT / name).exists():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name, follow_symlinks=False)
    return copy


@pytest.fixture(scope="module")
def sdist(checkout, tmp_path_factory):
    out = tmp_path_factory.mktemp("sdist")
    run("-m", "build", "--sdist", "--no-isolation", "--outdir", out, checkout, cwd=out)
    (archive,) = out.glob("*.tar.gz")
    return archive


@pytest.fixture
def install(tmp_path):
    """Install something to an empty folder."""

    def install(*what):
        target = tmp_path / "site"
        options = ["--quiet", "--no-deps", "--no-build-isolation", "--target", target]
        run("-m", "pip", "install", *options, *what, cwd=tmp_path)
        return target

    return install


def assert_works(site, package, cwd):
    """`package` is what a Python with the folder `site` on its path imports."""
    files = json.loads(run("-S", "-c", PROBE, site, cwd=cwd))
    assert files == [str(package / "__init__.py"), str(package / "kernels" / "__init__.py")]


def assert_installed(site, checkout, cwd):
    assert {p.name for p in site.iterdir()} == {"qplayer_gpu", f"qplayer_gpu-{qplayer_gpu.__version__}.dist-info"}
    package = site / "qplayer_gpu"
    assert files_of(package) >= {"py.typed"} | {f"kernels/{name}" for name in files_of(checkout / "kernels")}
    assert_works(site, package, cwd)


def test_checkout(checkout, tmp_path):
    assert_works(checkout, checkout / "qplayer_gpu", tmp_path)


def test_editable_install(checkout, install, tmp_path):
    assert_works(install("--editable", checkout), checkout / "qplayer_gpu", tmp_path)


def test_install(checkout, install, tmp_path):
    assert_installed(install(checkout), checkout, tmp_path)


def test_install_from_sdist(checkout, sdist, install, tmp_path):
    assert_installed(install(sdist), checkout, tmp_path)


def test_sdist_holds_real_files(sdist):
    with tarfile.open(sdist) as archive:
        assert not [member.name for member in archive if member.issym() or member.islnk()]


def test_import_needs_no_optional_packages(tmp_path):
    code = "import sys; sys.modules.update(triton=None, cupy=None, jax=None)\n"
    code += "sys.path.insert(0, sys.argv[1]); import qplayer_gpu"
    run("-c", code, ROOT, cwd=tmp_path)


def test_version():
    assert qplayer_gpu.__version__ == importlib.metadata.version("qplayer_gpu")
