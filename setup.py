"""Where the import packages lie; everything else about the project is declared in pyproject.toml.

The kernels have a folder of their own at the top of the repository, one sub-folder per op, but are imported
as ``scratchgen.kernels``: the bare name ``kernels`` belongs to a well-known package of somebody else's. It
takes a setup.py to say so, since the sub-packages have to be found: ``kernels/softmax`` is imported as
``scratchgen.kernels.softmax``.

An editable install keeps setuptools' default mode, an import hook that knows the two folders: new files are
seen at once, and no second copy or tree of links can go stale (as with ``editable_mode=strict``). The plain
path entry of ``editable_mode=compat`` cannot express the mapping. The hook costs 12 ms when Python starts.
"""

from setuptools import find_packages, setup

setup(
    package_dir={"scratchgen.kernels": "kernels"},
    packages=[
        *find_packages(include=["scratchgen", "scratchgen.*"]),
        "scratchgen.kernels",
        *(f"scratchgen.kernels.{name}" for name in find_packages("kernels")),
    ],
    # CUDA sources are read at run time, and each op's README tells the story of its kernels.
    package_data={
        "scratchgen": ["py.typed"],
        "scratchgen.kernels": ["**/*.cu", "**/*.cuh", "**/*.h", "**/*.cpp", "**/*.json", "**/*.md"],
    },
    include_package_data=False,
)
