# make        set up .venv and run the workflow          make test   set up and run every test
# make lint   ruff, snakefmt and snakemake's linter      make clean  remove results, keep .venv
# make unlock after snakemake itself was killed, before it is run again
# make plan   what a run would take, before anything is fetched: CONFIG=config/paper.yaml PROFILE=profiles/slurm
# make slurm  run on a cluster, with profiles/slurm filled in; make resume-slurm goes on after snakemake was killed there
PYTHON ?= python3
BIN := .venv/bin
CORES ?= all
# A hundred jobs import the same libraries: their bytecode is kept in .venv, whatever the environment says.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: run test lint benchmark unlock clean constraints plan slurm resume-slurm test-slurm

run: .venv/ready
	PATH="$(CURDIR)/$(BIN):$$PATH" snakemake --cores $(CORES)

test: .venv/ready-test
	PATH="$(CURDIR)/$(BIN):$$PATH" python -m pytest --numprocesses 2 --dist loadfile

lint: .venv/ready-test
	PATH="$(CURDIR)/$(BIN):$$PATH"; export PATH; \
	ruff check . && ruff format --check . && snakefmt --check . && snakemake --lint

# After a run: its aligned model and queries are measured. OFFICIAL=DIR adds the paper's own code.
benchmark: .venv/ready
	$(BIN)/python benchmarks/head_sweep.py $(if $(OFFICIAL),--official $(OFFICIAL))
	$(BIN)/python benchmarks/asr_map.py

unlock: .venv/ready
	PATH="$(CURDIR)/$(BIN):$$PATH" snakemake --unlock

plan: .venv/ready
	PATH="$(CURDIR)/$(BIN):$$PATH" snakemake plan --quiet all \
	  $(if $(PROFILE),--workflow-profile $(PROFILE)) $(if $(CONFIG),--configfile $(CONFIG))

slurm: .venv/ready
	PATH="$(CURDIR)/$(BIN):$$PATH" snakemake $(TARGET) \
	  --workflow-profile $(or $(PROFILE),profiles/slurm) $(if $(CONFIG),--configfile $(CONFIG))

resume-slurm: .venv/ready
	PATH="$(CURDIR)/$(BIN):$$PATH" profiles/slurm/resume.sh $(or $(PROFILE),profiles/slurm) $(TARGET) \
	  $(if $(CONFIG),--configfile $(CONFIG))

# On the SLURM that sinfo finds; says what it needs if there is none. SHORT=1: only what continuous integration runs.
# SLURM_NODE_KILL and SLURM_NODE_START: commands, given a node's name, for the test that crashes one.
test-slurm: .venv/ready-test
	PATH="$(CURDIR)/$(BIN):$$PATH" python -m pytest tests/slurm $(if $(SHORT),-m short)

clean:
	rm -rf results .snakemake

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv .venv

.venv/ready: $(BIN)/python requirements.txt constraints.txt
	$(BIN)/python -m pip install --quiet --no-compile --requirement requirements.txt --constraint constraints.txt
	touch $@

.venv/ready-test: .venv/ready requirements-test.txt
	$(BIN)/python -m pip install --quiet --no-compile --requirement requirements-test.txt --constraint constraints.txt
	touch $@

# Resolve again after changing a requirement; the build tag of torch differs by platform and is left out.
constraints: .venv/ready-test
	$(BIN)/python -m pip install --quiet pip-tools==7.6.2
	$(BIN)/python -m piptools compile --quiet --strip-extras --no-annotate --no-emit-index-url --no-emit-find-links \
	  --no-emit-trusted-host --no-header --output-file constraints.txt requirements-test.txt
	sed -i 's/^\(torch==[0-9.]*\)+.*/\1/' constraints.txt
