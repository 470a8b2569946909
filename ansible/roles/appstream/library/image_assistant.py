#!/usr/bin/python
"""What the action plugin of this name takes: it runs on this machine, and AWS's program on the builder."""

from __future__ import annotations

DOCUMENTATION = r"""
module: image_assistant
short_description: Fill the catalogue of an AppStream image builder, and let it become an image
description: >-
  By AWS's Image Assistant, which is a program on the builder, on Windows and Linux. What is in the catalogue
  as it is wanted stays; everything else is taken out or put in. An image is tried first, then made; one whose
  name is taken counts as made. A check mode looks and tries, and changes nothing.
options:
  applications:
    description: >-
      The whole catalogue, with the keys of kiln.toml: name and path, and what else is known. Without it
      the catalogue is left as it is.
    type: list
    elements: dict
  default_profile:
    description: Give new users what the builder's template user has; Windows only, and a change each time.
    type: bool
    default: false
  image:
    description: >-
      Image that the builder becomes, with name, and if wanted description, display_name, tags and
      latest_agent. The builder shuts down for it.
    type: dict
  program:
    description: The Image Assistant, where it is not where AWS has it.
    type: path
"""

RETURN = r"""
did:
  description: What was changed, or would be, in order.
  type: list
  elements: str
  returned: always
"""
