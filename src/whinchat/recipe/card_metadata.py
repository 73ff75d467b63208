"""What the hub's card metadata may hold, and the section ``publish`` of a recipe, which fills the model card."""

import re
from difflib import get_close_matches
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from whinchat.recipe.field_types import Name, Section, Text

# Licence ids that the hub takes in a card's metadata, as its refusal of another one lists them (huggingface_hub, issue
# 4218, May 2026). Any other licence is entered as "other" with its name in license_name.
_LICENSE_IDS = """
afl-3.0 agpl-3.0 apache-2.0 apple-amlr apple-ascl artistic-2.0 bigcode-openrail-m bigscience-bloom-rail-1.0
bigscience-openrail-m bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0 c-uda cc cc-by-2.0 cc-by-2.5 cc-by-3.0
cc-by-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0
cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0 cdla-permissive-1.0 cdla-permissive-2.0
cdla-sharing-1.0 creativeml-openrail-m deepfloyd-if-license ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2
fair-noncommercial-research-license gemma gfdl gpl gpl-2.0 gpl-3.0 grok2-community h-research intel-research isc lgpl
lgpl-2.1 lgpl-3.0 lgpl-lr llama2 llama3 llama3.1 llama3.2 llama3.3 llama4 lppl-1.3c mit mpl-2.0 ms-pl ncsa odbl odc-by
ofl-1.1 openmdw-1.0 openrail openrail++ osl-3.0 other pddl postgresql unknown unlicense wtfpl zlib
"""
HUB_LICENSES = frozenset(_LICENSE_IDS.split())

# ISO 639-1.
_LANGUAGE_CODES = """
aa ab ae af ak am an ar as av ay az ba be bg bh bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de dv dz ee el en eo
es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id ie ig ii ik io is it iu ja jv ka kg
ki kj kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu lv mg mh mi mk ml mn mr ms mt my na nb nd ne ng nl nn
no nr nv ny oc oj om or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg sh si sk sl sm sn so sq sr ss st su sv sw
ta te tg th ti tk tl tn to tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu
"""
_LANGUAGES = frozenset(_LANGUAGE_CODES.split())

# Language code -> name of the word list of the package glin-profanity.
PROFANITY_LISTS = {
    "ar": "arabic", "cs": "czech", "da": "danish", "de": "german", "en": "english", "eo": "esperanto", "es": "spanish",
    "fa": "persian", "fi": "finnish", "fr": "french", "hi": "hindi", "hu": "hungarian", "it": "italian",
    "ja": "japanese", "ko": "korean", "nb": "norwegian", "nl": "dutch", "nn": "norwegian", "no": "norwegian",
    "pl": "polish", "pt": "portuguese", "ru": "russian", "sv": "swedish", "th": "thai", "tr": "turkish",
    "zh": "chinese",
}  # fmt: skip

_DATASET = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")


def _dataset(name: str) -> str:
    if not _DATASET.fullmatch(name):
        raise PydanticCustomError("dataset", "is no name of a data set on the hub; write OWNER/NAME")
    return name


DatasetId = Annotated[str, AfterValidator(_dataset)]


def language_fault(code: str) -> str | None:
    """Return why the hub refuses ``code`` as the language of a card, or None."""
    if code in _LANGUAGES or code == "multilingual":
        return None
    if len(code) == 3 and code.isascii() and code.isalpha() and code.islower():
        return None  # ISO 639-2 and 639-3 have thousands of codes
    return (
        "is no language code, so the hub would refuse the model card; write an ISO 639 code in small letters, such as "
        "en or de, or multilingual"
    )


class PublishConfig(Section):
    """What the model card says beyond the measurements, and which texts it quotes.

    The names are those of the hub's card metadata where it has one. The card leaves out what is null or empty.
    """

    license: Text | None = Field(
        None, description="License of the adapter, by its id on the hub; null for the license of the base model."
    )
    license_name: Name | None = Field(None, description="With license: other, the name of the license.")
    license_link: Name | None = Field(None, description="With license: other, the web address of the license.")
    data_license: Name | None = Field(
        None, description="License of the training data; null where it is unknown or the source states it."
    )
    datasets: tuple[DatasetId, ...] = Field(
        (), description="Data sets on the hub that the training rows come from, besides data.source."
    )
    tags: tuple[Name, ...] = Field((), description="Further tags by which the hub lists the model.")
    developers: Text | None = Field(None, description="Who trained the model, for the card and its citation.")
    intended_use: Text | None = Field(None, description="Sentences on what the classifier is meant for.")
    out_of_scope_use: Text | None = Field(None, description="Sentences on what the classifier must not be used for.")
    samples: Literal["all", "clean", "none"] = Field(
        "all",
        description="Texts of the data that card, report and pushed files quote: all, clean (without the texts in "
        "which the word lists of glin-profanity find profanity), or none.",
    )

    @field_validator("license")
    @classmethod
    def _known_license(cls, license_id: str | None) -> str | None:
        if license_id is None or license_id in HUB_LICENSES:
            return license_id
        near = get_close_matches(license_id.lower(), sorted(HUB_LICENSES), n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise PydanticCustomError(
            "unknown_license",
            "is no license id of the hub; {hint}for another license set other, and publish.license_name",
            {"hint": hint},
        )

    @model_validator(mode="after")
    def _named_license(self) -> Self:
        if self.license == "other" and self.license_name is None:
            raise ValueError("license_name: the hub wants a name with license: other; name the license")
        given = [name for name in ("license_name", "license_link") if getattr(self, name) is not None]
        if given and self.license != "other":
            raise ValueError(f"{given[0]}: the hub reads it with license: other only; set license: other, or remove it")
        return self
