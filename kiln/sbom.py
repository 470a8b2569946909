"""A bill of materials as a document: CycloneDX 1.6, held against its schema before anybody gets it.

Made with cyclonedx-python-lib, which is the format's own project, brings the schemas and their validator,
and has no notion of Debian or Python to disagree with.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from datetime import datetime

from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from kiln.errors import KilnError

NAMESPACE = uuid.UUID("6b696c6e-0006-4000-8000-000000000006")
"""Of the serial numbers: the same content under the same name and version has the same one."""


def text(subject: Component, components: Iterable[Component], content: str, created: datetime) -> str:
    """Return the bill of materials of an image.

    Parameters
    ----------
    subject:
        The image.
    components:
        What is in it.
    content:
        Digest of what is in it, for the serial number.
    created:
        When the image was made.

    Returns
    -------
    str
        The JSON document.

    Raises
    ------
    KilnError
        It is not valid CycloneDX.
    """
    parts = list(components)
    bom = Bom(
        serial_number=uuid.uuid5(NAMESPACE, f"{subject.name}@{subject.version} {content}"),
        metadata=BomMetaData(component=subject, timestamp=created),
        components=parts,
    )
    bom.register_dependency(subject, parts)
    document = JsonV1Dot6(bom).output_as_string(indent=1)
    validate(document)
    return document + "\n"


def validate(document: str) -> None:
    """Hold a document against the schema of CycloneDX 1.6, in its strict form.

    Parameters
    ----------
    document:
        JSON.

    Raises
    ------
    KilnError
        It is not valid; the message has the place and what is wrong with it.
    """
    error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(document)
    if error is not None:
        first = str(getattr(error, "data", error)).splitlines()[0]
        raise KilnError(f"the SBOM is not valid CycloneDX 1.6: {first[:300]}", "report this: kiln wrote it")
