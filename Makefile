# Each target calls one program. setup installs what is missing, and is silent when nothing is.
.PHONY: bake test lint bench figures locks clean setup

bake: setup
	.venv/bin/kiln bake monai-label

test: setup
	.venv/bin/python -m tests

lint: setup
	.venv/bin/python -m scripts.lint

bench: setup
	.venv/bin/python -m tests.benchmarks

figures: setup
	.venv/bin/python -m kiln.figures --readme

locks: setup
	.venv/bin/python -m scripts.locks

clean: setup
	.venv/bin/python -m scripts.clean

setup:
	@scripts/setup.sh
