"""The names of the files in a run folder, ticket, model folder and artifact; rundir.py says where each file is."""

RECIPE_FILE = "recipe.yaml"
MACHINE_FILE = "machine.json"
FLOORS_FILE = "floors.json"
REPORT_FILE = "report.html"
RESULTS_CSV, RESULTS_JSON = "results.csv", "results.json"

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
SURGERY_FILE = "surgery.json"
BITMASK_FILE = "bitmask.safetensors"
MASK_FILE = "mask.safetensors"

START_FILE = "start.safetensors"
MOVEMENT_FILE = "movement.safetensors"
CHECKPOINT_FILE = "checkpoint.safetensors"
"""The state of an interrupted training, in the training's folder; a finished training removes the file."""

DENSE_FILE = "dense.json"
ROUND_FILE = "round.json"
TICKET_FILE = "ticket.json"
RESULT_FILE = "result.json"
ARTIFACT_FILE = "artifact.json"
