# `make demo` and `make test` install what they need; nothing else has to be run before them.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile
TORCH := torch==2.13.0
# Unset: pip's configured index. Set it to choose a CPU or a CUDA build: TORCH_INDEX=https://.../whl/cpu
TORCH_INDEX ?=

# Where it is set, each of the thousand processes of the tests compiles the project again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help install demo model ablation curve pictures listen test test-slow soak coverage check types style wheel clean

help:
	@echo "make demo       MIDI -> shards -> trained model -> 64 new grooves: installs what it needs, minutes on two cores"
	@echo "make install    only the environment, in $(VENV); then: $(BIN)/python -m jobs lists the commands"
	@echo "make model      trains and exports the shipped models and the trained baselines: SHARDS=shards/groove"
	@echo "make curve      after make model: the rate-distortion curve, half an hour"
	@echo "make ablation   what each decision in the models is worth, days of two cores: SHARDS=shards/groove"
	@echo "make pictures   the pictures of README and docs, six minutes; needs chromium, and GROOVE_DIR for those of GMD"
	@echo "make listen     the loops of docs/listen, half a minute; needs GROOVE_DIR"
	@echo "make check      ruff, pyright, import rules"
	@echo "make test       unit and integration tests, under 10 minutes"
	@echo "make test-slow  kills, clusters, full runs, with a seeded tenth of the long counts"
	@echo "make soak       make test in three shuffled orders, the long counts in full, all variants of each fault"
	@echo "make coverage   which product lines make test and make test-slow run, by package"
	@echo "make wheel      the package musicvae as a wheel in dist/"
	@echo "make clean      removes the environment, the demo and the wheel"

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt Makefile
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "error: Python 3.11 or newer is needed, found: $$($(PYTHON) --version 2>&1)"; \
	  echo "  do        install one and name it: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo "error: Python's venv module is missing"; \
	  echo "  do        apt-get install python3-venv (Debian, Ubuntu), then again: make $(MAKECMDGOALS)"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) $(TORCH)
	$(PIP) -c constraints.txt -e '.[jobs,dev]'
	@# pip compiles with one core. A few files that packages bring are templates, and no Python.
	@$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || true
	@touch $@

demo: install
	$(BIN)/python -m jobs.demo

# Both go on from where they were stopped, when run again with the same OUT.
SHARDS ?= shards/groove
OUT ?= runs
# Of every training: train.precision=float32 on a CPU that does not multiply bfloat16.
SETTINGS ?=
# Each begins from random weights; a later stretch begins from the weights of the one before it.
SHIPPED := generation reconstruction
BASELINES := latent_free feed_forward
STRETCHES := generation:generation_finish generation_finish:generation_settle generation_settle:generation_prior \
  reconstruction:reconstruction_decoder reconstruction_decoder:reconstruction_finish \
  reconstruction_finish:reconstruction_settle
# The stage whose weights are shipped.
LAST := generation:generation_prior reconstruction:reconstruction_settle
# Whose evaluations are printed as rows of the table of learning curves in docs/model-history.md.
CURVES := generation_settle reconstruction_settle reconstruction
JOB := $(BIN)/python -m jobs

model: install
	set -e; for preset in $(BASELINES) $(SHIPPED); do \
	  $(JOB).train --preset $$preset --shards $(SHARDS) --run $(OUT)/$$preset $(SETTINGS); done
	set -e; for stretch in $(STRETCHES); do $(JOB).train --preset $${stretch#*:} --init-from $(OUT)/$${stretch%:*} \
	  --shards $(SHARDS) --run $(OUT)/$${stretch#*:} $(SETTINGS); done
	set -e; for preset in $(BASELINES); do \
	  $(JOB).export $(OUT)/$$preset jobs/baselines/$$preset --dtype bfloat16 --data groove --overwrite; done
	set -e; for last in $(LAST); do $(JOB).export $(OUT)/$${last#*:} musicvae/weights/$${last%:*} \
	  --shards $(SHARDS) --dtype bfloat16 --data groove --overwrite; done
	$(JOB).evaluate --shards $(SHARDS) --split validation --json $(OUT)/validation.json
	set -e; for last in $(LAST); do $(JOB).export $(OUT)/$${last#*:} musicvae/weights/$${last%:*} \
	  --shards $(SHARDS) --dtype bfloat16 --data groove --figures $(OUT)/validation.json --overwrite; done
	$(BIN)/python -m tests.experiments.model_pictures --out $(OUT)/pictures $(CURVES:%=--run $(OUT)/%)

# NAME of tests/experiments/ablations, or NAME:RUN to start from that run's weights.
MINUTES ?= 25
ABLATIONS ?= generation generation-settle:$(OUT)/generation_finish reconstruction

ablation: install
	set -e; for one in $(ABLATIONS); do name=$${one%%:*}; start=$${one#$$name}; \
	  $(BIN)/python -m tests.experiments.ablation tests/experiments/ablations/$$name.yaml $(SETTINGS) --shards $(SHARDS) \
	  --out $(OUT)/ablation-$$name --minutes $(MINUTES) $${start:+--init-from $${start#:}}; done

# After `make model`. A run of the curve: its name, preset, first weights, steps and settings.
curve_run = $(JOB).train --preset $(2) --init-from $(3) --shards $(SHARDS) --run $(OUT)/curve/$(1) \
  train.steps=$(4) optimizer.restart_steps=$(4) train.evaluate_every=$(4) $(5) $(SETTINGS)
KL_15 := objective.window_dropout=0.8 objective.beta
KL_15_AFTER := optimizer.learning_rate=1e-3 train.average_decay=0.99
FREE_BITS := 43 102 258

curve: install
	$(call curve_run,kl-15-first,reconstruction_decoder,$(OUT)/reconstruction_finish,1000,$(KL_15)=1.75)
	$(call curve_run,kl-15-second,reconstruction_finish,$(OUT)/curve/kl-15-first,450,$(KL_15)=1.65 $(KL_15_AFTER))
	$(call curve_run,kl-15,reconstruction_finish,$(OUT)/curve/kl-15-second,500,$(KL_15)=1.6 $(KL_15_AFTER))
	$(call curve_run,kl-30,reconstruction_decoder,$(OUT)/reconstruction_finish,450,objective.beta=1.33)
	$(call curve_run,kl-179,reconstruction_decoder,$(OUT)/reconstruction_finish,450,objective.beta=0.02)
	set -e; for bits in $(FREE_BITS); do $(JOB).train --preset feed_forward --shards $(SHARDS) \
	  --run $(OUT)/curve/free-bits-$$bits objective.free_bits=$$bits train.evaluate_every=4000 $(SETTINGS); done
	$(BIN)/python -m tests.experiments.model_pictures --out $(OUT)/curve \
	  $(foreach run,curve/kl-15 curve/kl-30 reconstruction_settle curve/kl-179,--figures "reconstruction=$(OUT)/$(run)") \
	  $(foreach bits,$(FREE_BITS),--figures "feed-forward VAE=$(OUT)/curve/free-bits-$(bits)") \
	  --figures "feed-forward VAE=jobs/baselines/feed_forward"

# All of them, or these: PICTURES="gallery.png report.png".
PICTURES ?=

pictures: install
	$(BIN)/python -m tests.experiments.page_pictures --out docs/images $(PICTURES)

listen: install
	$(BIN)/python -m tests.experiments.listen --out docs/listen

# Each process takes whole files, so that what the tests of a file share is made once; 0 runs all in one process.
# Half as many more as there are cores, as tests wait for processes that end.
TEST_PROCESSES ?= $(shell echo $$(($$(nproc 2>/dev/null || echo 2) * 3 / 2)))
PYTEST := -m pytest -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder
# Two cores need half of it, or less.
TEST_SECONDS ?= 900
SLOW_SECONDS ?= 4500
SLOW := $(PYTEST) --timeout 900 -m slow

test: install
	$(BIN)/python $(PYTEST) -m "not slow" --layer-seconds $(TEST_SECONDS) --junitxml out/gate/test.xml

test-slow: install
	$(BIN)/python $(SLOW) --layer-seconds $(SLOW_SECONDS) --junitxml out/gate/test-slow.xml

# In three other orders, so that no test needs what another one left.
SEEDS ?= 1 2 3

soak: install
	set -e; for seed in $(SEEDS); do $(BIN)/python $(PYTEST) -m "not slow" --shuffle $$seed; done
	SOAK=1 $(BIN)/python $(SLOW)

coverage: install
	rm -rf out/coverage
	COVERAGE_FILE=$(CURDIR)/out/coverage/test $(BIN)/coverage run $(PYTEST) -m "not slow"
	COVERAGE_FILE=$(CURDIR)/out/coverage/test-slow $(BIN)/coverage run $(SLOW)
	$(BIN)/python -m tests.support.layers.coverage_table out/coverage test test-slow

# Types are checked by one process: `make -j2 check` runs the other checks beside it.
check: types style

types: install
	$(BIN)/pyright

style: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest -q tests/unit/repository/test_import_rules.py

wheel: install
	$(BIN)/python -m build --wheel --outdir dist .

clean:
	rm -rf $(VENV) dist demo .pytest_cache .ruff_cache
