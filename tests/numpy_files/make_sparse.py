"""Writes sparse matrices with SciPy, and checks those that C++ wrote.

    python3 make_sparse.py write FOLDER    FORMAT_NAME.npz, and FORMAT_NAME.npy with the dense content
    python3 make_sparse.py check FOLDER    every archive in FOLDER against the dense array of the same name

numpy_files/sparse has a folder for each SciPy that wrote. Nothing is random from run to run.
"""

import pathlib
import sys

import numpy as np
import scipy
import scipy.sparse as sp


def dense(dtype, shape=(6, 8)):
    """Two thirds of the elements are zero."""
    numbers = (np.arange(np.prod(shape)) * 37 % 101).reshape(shape)
    values = np.where(numbers % 3 == 1, numbers, 0)
    return (values * (1 - 2j) if np.dtype(dtype).kind == "c" else values).astype(dtype)


def with_data(matrix, dtype):
    """The matrix with values of a dtype that SciPy itself would convert."""
    matrix.data = matrix.data.astype(dtype)
    return matrix


def unsorted(matrix):
    """The same matrix with the entries of each row in the opposite order."""
    for begin, end in zip(matrix.indptr, matrix.indptr[1:]):
        matrix.indices[begin:end] = matrix.indices[begin:end][::-1].copy()
        matrix.data[begin:end] = matrix.data[begin:end][::-1].copy()
    matrix.has_sorted_indices = False
    return matrix


def wide(matrix):
    """The same matrix with indices of int64."""
    for name in ("indices", "indptr", "row", "col"):
        if hasattr(matrix, name):
            setattr(matrix, name, getattr(matrix, name).astype(np.int64))
    return matrix


def matrices():
    """Yields a name, which begins with the format, and a matrix, whether it is deflated, and the dense array."""
    classes = {"csr": sp.csr_matrix, "csc": sp.csc_matrix, "coo": sp.coo_matrix, "bsr": sp.bsr_matrix}
    dtypes = {"csr": ["bool", "float32", "uint16"], "csc": ["complex64", "int8"], "coo": ["complex128", "uint8"],
              "bsr": ["int16", "float64"]}
    for kind, make in classes.items():
        for dtype in dtypes[kind]:
            array = dense(dtype)
            yield f"{kind}_{dtype}", make(array), dtype != "float32", array
        yield f"{kind}_half", with_data(make(dense("float32")), "<f2"), False, dense("<f2")
        yield f"{kind}_swapped", with_data(make(dense("int32")), ">i4"), False, dense("int32")
        yield f"{kind}_wide", wide(make(dense("float32"))), False, dense("float32")
        yield f"{kind}_zero", make((3, 4), dtype="float32"), False, np.zeros((3, 4), "float32")
        if kind != "bsr":
            yield f"{kind}_0x4", make((0, 4), dtype="float32"), False, np.zeros((0, 4), "float32")
            yield f"{kind}_3x0", make((3, 0), dtype="float32"), False, np.zeros((3, 0), "float32")
    for kind in ("csr", "csc"):
        yield f"{kind}_unsorted", unsorted(classes[kind](dense("float64"))), True, dense("float64")
    blocks = sp.bsr_matrix(dense("float32"), blocksize=(2, 4))
    yield "bsr_2x4", blocks, True, dense("float32")
    yield "bsr_2x4_unsorted", unsorted(blocks.copy()), False, dense("float32")
    entries = (np.array([3, 4, 5], "float32"), (np.array([1, 0, 1]), np.array([2, 3, 2])))
    yield "coo_twice", sp.coo_matrix(entries, shape=(2, 4)), False, sp.coo_matrix(entries, shape=(2, 4)).toarray()
    if hasattr(sp, "coo_array"):
        yield "csr_array", sp.csr_array(dense("float32")), True, dense("float32")
        yield "coo_array", sp.coo_array(dense("float32")), True, dense("float32")
        try:
            cube = dense("float32", (3, 4, 5))
            yield "coo_3d", sp.coo_array(cube), True, cube
            yield "coo_1d", sp.coo_array(cube[0, 0]), False, cube[0, 0]
        except (TypeError, ValueError):
            pass  # SciPy before 1.13 has no other number of axes than 2


def write(folder):
    folder.mkdir(parents=True, exist_ok=True)
    count = 0
    for name, matrix, deflated, array in matrices():
        sp.save_npz(folder / f"{name}.npz", matrix, compressed=deflated)
        np.save(folder / f"{name}.npy", array)
        if matrix.dtype.isnative and matrix.dtype != np.float16:  # others SciPy saves, and cannot load
            loaded = sp.load_npz(folder / f"{name}.npz")
            assert np.array_equal(loaded.toarray(), array), name
        count += 1
    sp.save_npz(folder / "dia.npz", sp.dia_matrix(np.diag([1.0, 2.0])), compressed=False)
    print(f"{count} matrices in {folder}, by SciPy {scipy.__version__}")


def check(folder):
    paths = sorted(folder.glob("*.npz"))
    assert len(paths) >= 40, len(paths)
    for path in paths:
        want = np.load(path.with_suffix(".npy"))
        matrix = sp.load_npz(path)
        assert matrix.format == path.name[:3], path
        assert matrix.dtype == want.dtype and matrix.shape == want.shape, path
        assert np.array_equal(matrix.toarray(), want), path
    print(f"{len(paths)} matrices of C++: SciPy {scipy.__version__} loads them")


if __name__ == "__main__":
    {"write": write, "check": check}[sys.argv[1]](pathlib.Path(sys.argv[2]))
