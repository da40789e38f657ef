"""The specs of the families that this package adds; the code of a family is imported when a model is read."""

from lxcompress.catalog.families import FamilySpec

BLIND_BERT = FamilySpec(
    name="blind_bert",
    family="lxcompress_example.blind_bert:FAMILY",
    parts={"bert.embeddings.": "language", "bert.encoder.": "language"},
    summary="BERT that answers from the question alone: what a data set's language gives away",
)
