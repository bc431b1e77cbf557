"""Job files: one YAML file says what a verb is to do, where it is submitted and what happens every night.

    verb: score                        # any verb that does work, "mixture fit" and the like in two words; default score
    model: ./my-model                  # the verb's own flags, with `-` or `_`; a list where a flag is repeatable
    input: [s3://bucket/corpus/]
    lake: s3://bucket/lake
    run_id: monday
    submit: {...}                      # `jobs.submission.options.SubmitOptions`
    nightly: {...}                     # `jobs.nightly.options.NightlyOptions`

    text -> document (text of every value, nothing guessed) -> fields (typed by the verb's flags) -> JobFile

`read_job_file` lists every fault of a file at once and looks at nothing but the file; `world_faults` looks at input,
model and lake. `words` is the command line that a file stands for.
"""

from jobs.job_file.read import JobFile, read_fields, read_job_file
from jobs.job_file.verbs import job_verbs
from jobs.job_file.words import words

__all__ = ["JobFile", "job_verbs", "read_fields", "read_job_file", "words"]
