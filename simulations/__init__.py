"""Simulation studies: run in parallel, stored safely, summarised with Monte Carlo errors.

``python -m simulations run STUDY`` writes one directory::

    results/STUDY-PRESET/
        manifest.json    study, preset, seed, cells, schema version, digest of the table; one entry in ``runs`` a start
                         or resume: time, package versions, platform, git commit and whether the tree was dirty
        data/            study=STUDY/cell=CELL/part-START-STOP.parquet: replicates of a cell, a partitioned dataset
        measures.csv     performance measures with Monte Carlo standard errors
        verdicts.csv     claim, prediction, estimate with interval, verdict

The table is long, one row a (cell, replicate, parameter), sorted by cell, replicate and parameter:

==============  =======  ==================================================================
column          type     meaning
==============  =======  ==================================================================
study           string   name of the study
*cell columns*  any      one column a cell parameter, such as estimator, n, n_draws
replicate       int64    0, 1, ... within the cell
parameter       string   name of the estimated parameter
truth           float64  its true value
estimate        float64  finite where status is ``converged``
se              float64  standard error, NaN where the estimator offers none
status          string   ``converged``, or the cause of the failure
seconds         float64  wall time of the batch over its number of replicates
seed            string   entropy of the replicate's stream, read by `simulations.seeds.from_text`
==============  =======  ==================================================================

Every column but ``seconds`` is a function of (study, preset, seed): it depends neither on the number of
workers nor on how often the run was killed and resumed. Directories are locked and flushed by POSIX calls.
"""
