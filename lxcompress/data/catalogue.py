"""The catalogue: addresses, sizes, checksums and licences of the data and weights that the recipes need.

`size_bytes` and `sha256` are exact, and downloads are checked against them; a comment says where they were found.
`about_bytes` is the rounded size that the publisher states. None means that no value was found; it is shown as unknown.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from lxcompress.filenames import CONFIG_FILE

JSON_AND_NOTES = ("*.json", "*.txt")

QUESTIONS = {
    "lxmert-vqa/train.json": 443_757,
    "lxmert-vqa/nominival.json": 188_360,
    "lxmert-vqa/minival.json": 25_994,
    "lxmert-gqa/train.json": 943_000,
    "lxmert-gqa/valid.json": 132_062,
    "lxmert-gqa/testdev.json": 12_578,
    "nlvr2/train.json": 86_373,
    "nlvr2/dev.json": 6_982,
    "nlvr/train.json": 12_460,
    "nlvr/dev.json": 989,
    "vqa1/OpenEnded_mscoco_train2014_questions.json": 248_349,
    "vqa1/OpenEnded_mscoco_val2014_questions.json": 121_512,
    "vqa2/v2_OpenEnded_mscoco_train2014_questions.json": 443_757,
    "vqa2/v2_OpenEnded_mscoco_val2014_questions.json": 214_354,
}
"""COLLECTION/FILE -> how many questions the file has, as its publisher counts them."""
ANSWERS = {"vqa": 3_129, "gqa": 1_842, "nlvr2": 2, "nlvr": 2}
"""data.kind -> how many answers the published vocabulary has."""


@dataclass(frozen=True)
class RemoteFile:
    """A file at a public address. `unpack` has name patterns of the files to unpack from a zip; by default none."""

    address: str
    size_bytes: int | None = None
    about_bytes: int | None = None
    sha256: str | None = None
    unpack: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Return the name of the file."""
        return self.address.rpartition("/")[2]


@dataclass(frozen=True)
class Collection:
    """A collection of files that are fetched together, and their licence.

    `page` is the web page of the licence or the publisher. `elsewhere` is another address of the publisher, for people
    only: programs must not download from it.
    """

    what: str
    licence: str
    page: str
    files: tuple[RemoteFile, ...]
    about_bytes: int | None = None
    elsewhere: str | None = None


def _at(base: str, *files: RemoteFile) -> tuple[RemoteFile, ...]:
    """Return `files` with `base` put before each address."""
    return tuple(replace(file, address=f"{base}/{file.address}") for file in files)


VQA = "https://s3.amazonaws.com/cvmlp/vqa"
LXMERT = "https://nlp.cs.unc.edu/data"
LXMERT_REPOSITORY = "https://raw.githubusercontent.com/airsplay/lxmert/0db1182b9030da3ce41f17717cc628e1cd0a95d5"
LXMERT_PAGE = "https://github.com/airsplay/lxmert"
LXMERT_DRIVE = "https://drive.google.com/drive/folders/1Gq1uLUk6NdD0CcJOptXjxE6ssY5XAuat"
NLVR = "https://raw.githubusercontent.com/lil-lab/nlvr/18924841aa96d519cfb8584f0945350f07a6d860"
HUB = "https://huggingface.co"
IMAGES_OF_COCO = "the images are COCO's, each under its Flickr licence, and are not part of this"

CATALOGUE: dict[str, Collection] = {
    # Addresses: visualqa.org/download.html. SHA-256: facebookresearch/ParlAI, parlai/tasks/vqa_v2/build.py. Sizes: two
    # public download scripts give the same ones, and one of them has these checksums too.
    "vqa2": Collection(
        what="VQA v2.0, questions (train, val, test) and annotations (train, val)",
        licence=f"CC BY 4.0; {IMAGES_OF_COCO}",
        page="https://visualqa.org/terms.html",
        files=_at(
            f"{VQA}/mscoco/vqa",
            RemoteFile(
                "v2_Questions_Train_mscoco.zip",
                size_bytes=7_239_401,
                sha256="05a64b6e2582d06d7585f5429674a9a33851878be1bff9f8668cdcf792df611e",
                unpack=JSON_AND_NOTES,
            ),
            RemoteFile(
                "v2_Questions_Val_mscoco.zip",
                size_bytes=3_494_929,
                sha256="e71f6c5c3e97a51d050f28243e262b28cd0c48d11a6b4632d769d30d3f93222a",
                unpack=JSON_AND_NOTES,
            ),
            RemoteFile(
                "v2_Questions_Test_mscoco.zip",
                sha256="982e2e687a86514b78ea83af356d151976c5e3fb4168a29ca543610574082ad7",
                unpack=JSON_AND_NOTES,
            ),
            RemoteFile(
                "v2_Annotations_Train_mscoco.zip",
                size_bytes=21_708_861,
                sha256="fb101bcefe91422c543c2bb6d70af11eb3119d0ff745ae283d09acdf66250853",
                unpack=JSON_AND_NOTES,
            ),
            RemoteFile(
                "v2_Annotations_Val_mscoco.zip",
                size_bytes=10_518_930,
                sha256="0caae7c8d1dafd852727f5ac046bc1efca9b72026bd6ffa34fc489f3a7b3291e",
                unpack=JSON_AND_NOTES,
            ),
        ),
    ),
    # Addresses: visualqa.org/vqa_v1_download.html. SHA-256 of the real images' files: facebookresearch/ParlAI,
    # parlai/tasks/vqa_v1/build.py. Each zip of questions holds the open-ended and the multiple-choice ones.
    "vqa1": Collection(
        what="VQA v1.0, real images and abstract scenes, open-ended and multiple-choice",
        licence=f"CC BY 4.0; {IMAGES_OF_COCO}",
        page="https://visualqa.org/terms.html",
        files=(
            *_at(
                f"{VQA}/mscoco/vqa",
                RemoteFile(
                    "Questions_Train_mscoco.zip",
                    sha256="c3b2bb6155528eeae95e0a914af394d6f0d98f8f2b51012c44b27778e1a96707",
                    unpack=JSON_AND_NOTES,
                ),
                RemoteFile(
                    "Questions_Val_mscoco.zip",
                    sha256="e8839be5de2d711989bf0adc82e6717d1ce307d27c9b1dfb0abf413b79a5d4d0",
                    unpack=JSON_AND_NOTES,
                ),
                RemoteFile(
                    "Questions_Test_mscoco.zip",
                    sha256="bd080c297fc863bf8258caa4864d3b5afab29373375a6637f8546338291e28c0",
                    unpack=JSON_AND_NOTES,
                ),
                RemoteFile(
                    "Annotations_Train_mscoco.zip",
                    sha256="a5f5f97c162a4ad44896be08bac6deaa258aa3fec281afcc84fe85ae44cb1ebc",
                    unpack=JSON_AND_NOTES,
                ),
                RemoteFile(
                    "Annotations_Val_mscoco.zip",
                    sha256="29377c35186d90aeab3e61bdad890f51215d1f88b700bd22ef19004d73bf284f",
                    unpack=JSON_AND_NOTES,
                ),
            ),
            *_at(
                f"{VQA}/abstract_v002/vqa",
                RemoteFile("Questions_Train_abstract_v002.zip", unpack=JSON_AND_NOTES),
                RemoteFile("Questions_Val_abstract_v002.zip", unpack=JSON_AND_NOTES),
                RemoteFile("Questions_Test_abstract_v002.zip", unpack=JSON_AND_NOTES),
                RemoteFile("Annotations_Train_abstract_v002.zip", unpack=JSON_AND_NOTES),
                RemoteFile("Annotations_Val_abstract_v002.zip", unpack=JSON_AND_NOTES),
            ),
        ),
    ),
    # Addresses: airsplay/lxmert, README.md (there without a scheme; many who followed it give https). Sizes and SHA-256
    # of the answer vocabularies: from copies of the repository's files at the commit named in their address.
    "lxmert-vqa": Collection(
        what="VQA v2.0 as LXMERT redistributes it: train, nominival, minival, test, and the 3,129 answers",
        licence=f"MIT (LXMERT), CC BY 4.0 (VQA); {IMAGES_OF_COCO}",
        page=LXMERT_PAGE,
        elsewhere=LXMERT_DRIVE,
        files=(
            *_at(
                f"{LXMERT}/lxmert_data/vqa",
                RemoteFile("train.json"),
                RemoteFile("nominival.json"),
                RemoteFile("minival.json"),
                RemoteFile("test.json"),
            ),
            *_at(
                f"{LXMERT_REPOSITORY}/data/vqa",
                RemoteFile(
                    "trainval_ans2label.json",
                    size_bytes=64_332,
                    sha256="ab3b0707b4c78ff28587f0131cee4d63b0e0c0d22ad82a89e809521abdc412dc",
                ),
                RemoteFile(
                    "trainval_label2ans.json",
                    size_bytes=46_668,
                    sha256="e72e568a6303130f5a627db06360605ee3b306366ff463aa5153d782adc12a7d",
                ),
            ),
        ),
    ),
    "lxmert-gqa": Collection(
        what="GQA (balanced) as LXMERT redistributes it: train, valid, testdev, and the 1,842 answers",
        licence="MIT (LXMERT), CC BY 4.0 (GQA)",
        page=LXMERT_PAGE,
        elsewhere=LXMERT_DRIVE,
        files=(
            *_at(
                f"{LXMERT}/lxmert_data/gqa",
                RemoteFile("train.json"),
                RemoteFile("valid.json"),
                RemoteFile("testdev.json"),
            ),
            *_at(
                f"{LXMERT_REPOSITORY}/data/gqa",
                RemoteFile(
                    "trainval_ans2label.json",
                    size_bytes=37_898,
                    sha256="5d9d8353151c1b7bcb6e612fc532af2e7d418fa8c92056de4a4b5da2ba9fdf9a",
                ),
                RemoteFile(
                    "trainval_label2ans.json",
                    size_bytes=20_586,
                    sha256="3ba2e3668760dfcfcfe40dc58711a7c551ca7da48be87a7fdd3fae9963f8264d",
                ),
            ),
        ),
    ),
    # Address and size ("ver 1.2 / 1.4GB"): cs.stanford.edu/people/dorarad/gqa/download.html. Only the balanced
    # questions are unpacked: all of them together are 22 million.
    "gqa": Collection(
        what="GQA, official questions, version 1.2 (the balanced ones are unpacked)",
        licence="CC BY 4.0; the images are Visual Genome's and COCO's, and are not part of this",
        page="https://cs.stanford.edu/people/dorarad/gqa/download.html",
        files=_at(
            "https://downloads.cs.stanford.edu/nlp/data/gqa",
            RemoteFile("questions1.2.zip", about_bytes=1_400_000_000, unpack=("*_balanced_questions.json", "*.txt")),
        ),
    ),
    # Addresses: lil-lab/nlvr at the commit named in them; nlvr2/README.md tells what the files are.
    "nlvr2": Collection(
        what="NLVR2, sentences, labels and image addresses: train, dev, both tests",
        licence="CC BY 4.0 (text); the images belong to their owners, and are not part of this",
        page="https://github.com/lil-lab/nlvr/tree/master/nlvr2",
        files=_at(
            f"{NLVR}/nlvr2/data",
            RemoteFile("train.json"),
            RemoteFile("dev.json"),
            RemoteFile("test1.json"),
            RemoteFile("test2.json"),
        ),
    ),
    # As above. Size and SHA-256 of dev.json: from a copy of the file at that commit.
    "nlvr": Collection(
        what="NLVR v1, sentences over structured scenes: train, dev, both tests",
        licence="CC BY 4.0",
        page="https://github.com/lil-lab/nlvr/tree/master/nlvr",
        files=_at(
            f"{NLVR}/nlvr",
            RemoteFile("train/train.json"),
            RemoteFile(
                "dev/dev.json",
                size_bytes=813_215,
                sha256="0d312c3d7309393c0e36d286c70b884fb276819699e9f8f2bcea2854ad46537b",
            ),
            RemoteFile("test/test.json"),
            RemoteFile("hidden/hidden.json"),
        ),
    ),
    # Addresses: airsplay/lxmert, README.md. Sizes of these four: the same README as of 2020, in GB (train 17, val 8,
    # test 16; Visual Genome and GQA 30 together; NLVR2 train 21, valid 1.6, test 1.6).
    "coco-obj36": Collection(
        what="LXMERT's region features of COCO train2014 and val2014, 36 a picture",
        licence=f"none is stated for the features (LXMERT's repository is MIT); {IMAGES_OF_COCO}",
        page="https://cocodataset.org/#termsofuse",
        elsewhere=LXMERT_DRIVE,
        files=_at(
            f"{LXMERT}/lxmert_data/mscoco_imgfeat",
            RemoteFile("train2014_obj36.zip", about_bytes=17_000_000_000),
            RemoteFile("val2014_obj36.zip", about_bytes=8_000_000_000),
        ),
    ),
    "coco-test-obj36": Collection(
        what="LXMERT's region features of COCO test2015, 36 a picture",
        licence=f"none is stated for the features (LXMERT's repository is MIT); {IMAGES_OF_COCO}",
        page="https://cocodataset.org/#termsofuse",
        elsewhere=LXMERT_DRIVE,
        files=_at(
            f"{LXMERT}/lxmert_data/mscoco_imgfeat",
            RemoteFile("test2015_obj36.zip", about_bytes=16_000_000_000),
        ),
    ),
    "gqa-obj36": Collection(
        what="LXMERT's region features of Visual Genome and of GQA's testdev, 36 a picture",
        licence=(
            "none is stated for the features (LXMERT's repository is MIT); "
            "the images are Visual Genome's and COCO's, and are not part of this"
        ),
        page="https://homes.cs.washington.edu/~ranjay/visualgenome/",
        elsewhere=LXMERT_DRIVE,
        about_bytes=30_000_000_000,
        files=_at(
            f"{LXMERT}/lxmert_data/vg_gqa_imgfeat",
            RemoteFile("vg_gqa_obj36.zip"),
            RemoteFile("gqa_testdev_obj36.zip"),
        ),
    ),
    "nlvr2-obj36": Collection(
        what="LXMERT's region features of NLVR2's train, dev and public test, 36 a picture",
        licence="none is stated for the features (LXMERT's repository is MIT); the images belong to their owners",
        page="https://github.com/lil-lab/nlvr/tree/master/nlvr2",
        elsewhere=LXMERT_DRIVE,
        files=_at(
            f"{LXMERT}/lxmert_data/nlvr2_imgfeat",
            RemoteFile("train_obj36.zip", about_bytes=21_000_000_000),
            RemoteFile("valid_obj36.zip", about_bytes=1_600_000_000),
            RemoteFile("test_obj36.zip", about_bytes=1_600_000_000),
        ),
    ),
    # Address: many who followed cs.stanford.edu/people/jcjohns/clevr give it. Size: two public projects that downloaded
    # it give the same one, and one of them has this SHA-256 too.
    "clevr": Collection(
        what="CLEVR v1.0 without images: scenes (train, val) and questions (train, val, test)",
        licence="CC BY 4.0",
        page="https://cs.stanford.edu/people/jcjohns/clevr/",
        files=_at(
            "https://dl.fbaipublicfiles.com/clevr",
            RemoteFile(
                "CLEVR_v1.0_no_images.zip",
                size_bytes=89_363_837,
                sha256="d4435dceab30022b64f7d34b3ec217162bfc1c2950c79999784750ced22674c4",
                unpack=JSON_AND_NOTES,
            ),
        ),
    ),
    # Addresses and "870 MB": airsplay/lxmert, README.md. Size and SHA-256 of all_ans.json: from a copy of the file at
    # the commit named in its address.
    "lxmert": Collection(
        what="LXMERT's original pre-trained weights, and the 9,500 answers that their head knows",
        licence="MIT",
        page=LXMERT_PAGE,
        elsewhere=LXMERT_DRIVE,
        files=(
            *_at(LXMERT, RemoteFile("model_LXRT.pth", about_bytes=870_000_000)),
            *_at(
                f"{LXMERT_REPOSITORY}/data/lxmert",
                RemoteFile(
                    "all_ans.json",
                    size_bytes=986_576,
                    sha256="b860c6cd7b8fe3afa1e5308933664c37bc8728eff967e9845543169a06d012b8",
                ),
            ),
        ),
    ),
    # Revisions and sizes: the pages of both repositories on the hub, where each revision is the last of main. Both keep
    # the weights as pytorch_model.bin alone, which transformers reads with weights_only.
    "lxmert-base-uncased": Collection(
        what="LXMERT pre-trained, converted for transformers (unc-nlp/lxmert-base-uncased)",
        licence="none is stated on the hub; the original is LXMERT's, MIT",
        page=f"{HUB}/unc-nlp/lxmert-base-uncased",
        files=_at(
            f"{HUB}/unc-nlp/lxmert-base-uncased/resolve/628572c96242d1496147beec1c13a1bb7869605d",
            RemoteFile(CONFIG_FILE, size_bytes=776),
            RemoteFile("pytorch_model.bin", about_bytes=1_010_000_000),
            RemoteFile("special_tokens_map.json", size_bytes=112),
            RemoteFile("tokenizer.json", about_bytes=466_000),
            RemoteFile("tokenizer_config.json", size_bytes=153),
            RemoteFile("vocab.txt", about_bytes=232_000),
        ),
    ),
    "lxmert-vqa-uncased": Collection(
        what="LXMERT fine-tuned on VQA v2.0, converted for transformers (unc-nlp/lxmert-vqa-uncased)",
        licence="none is stated on the hub; the original is LXMERT's, MIT",
        page=f"{HUB}/unc-nlp/lxmert-vqa-uncased",
        files=_at(
            f"{HUB}/unc-nlp/lxmert-vqa-uncased/resolve/945e6172c6c93befbe8d64683f22d34cb567e8ab",
            RemoteFile(CONFIG_FILE, size_bytes=880),
            RemoteFile("pytorch_model.bin", about_bytes=856_000_000),
            RemoteFile("special_tokens_map.json", size_bytes=112),
            RemoteFile("vocab.txt", about_bytes=232_000),
        ),
    ),
    # Size and SHA-256: as public projects pin the file, one of them at this revision.
    "bert-vocab": Collection(
        what="BERT's uncased WordPiece vocabulary, 30,522 tokens, which LXMERT reads",
        licence="Apache-2.0",
        page=f"{HUB}/google-bert/bert-base-uncased",
        files=_at(
            f"{HUB}/google-bert/bert-base-uncased/resolve/86b5e0934494bd15c9632b12f734a8a67f723594",
            RemoteFile(
                "vocab.txt",
                size_bytes=231_508,
                sha256="07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
            ),
        ),
    ),
}
"""name -> the collection that `lxcompress data fetch NAME` downloads to FOLDER/NAME."""
