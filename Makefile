# The two commands, `make notebooks` and `make test`, what they are made of, `make site` and `make report`.
# `python make.py` is the same commands where there is no make.

export VENV ?= .venv
BIN = $(abspath $(VENV))/bin
READY = $(VENV)/.installed
# Tests run in as many processes as there are cores; each needs about 1 GB.
WORKERS = -n auto --maxprocesses 4

.PHONY: notebooks test lowest colab editions site results report address clean

# Run all notebooks top to bottom, the executed copies go to executed/; lint, unit tests (six
# minutes on two slow cores: what takes long is named), and every notebook in seconds, its fixed outputs
# compared with the stored ones.
notebooks test:
	python3 make.py $@

# The environment, with the versions that the tests ran with.
$(READY): $(wildcard *requirements.txt */requirements.txt) constraints.txt pyproject.toml
	python3 make.py environment

# The unit tests with the lowest versions that requirements.txt allows. The pip that comes with
# Python 3.11 searches for a quarter of an hour and more for what goes with them, today's one minute.
lowest:
	python3 -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet --upgrade pip
	sed 's/>=/==/' requirements.txt tests/requirements.txt > .venv-lowest/requirements.txt
	.venv-lowest/bin/python -m pip install --quiet --requirement .venv-lowest/requirements.txt
	.venv-lowest/bin/python -m pytest -q $(WORKERS)

# Colab, Kaggle and an empty folder, simulated: three notebooks from a bare environment, killed on
# the way and started again. It downloads about 150 MB.
colab: $(READY)
	$(BIN)/python tests/colab.py

# Both editions of the notebooks: editions/student, editions/teacher.
editions: $(READY)
	$(BIN)/python solutions/editions.py

# The site, offline, from what is stored: site/_build/html/index.html. A link that leads nowhere, or
# a docstring that cannot be read, is an error.
site:
	python3 make.py $@

# Write RESULTS.md and the README's results table anew, from the records in data/.
results: $(READY)
	$(BIN)/python -m attention.results.report
	$(BIN)/python -m attention.results.readme

# The whole study, what its networks cost and what their maps are worth, then every notebook on
# these records, then the README's tables (not its sentences: read them anew). It takes hours:
# stopped at any moment, the same command goes on.
report: export ATTENTION_PROFILE ?= full
report: $(READY)
	$(BIN)/python -m attention.study
	$(BIN)/python -m attention.benchmark mechanisms
	$(BIN)/python -m attention.survey localisation
	$(BIN)/python -m attention.survey faithfulness
	$(MAKE) notebooks
	$(MAKE) results

# Put the repository's address into all places that name it: make address SLUG=owner/repository
address:
	python3 tests/address.py $(SLUG)

clean:
	rm -rf $(VENV) .venv-lowest .venv-colab executed editions site/_build
