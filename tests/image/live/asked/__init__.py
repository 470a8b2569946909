"""What a booted guest is asked: ``asked/<role>.py`` has ``answers()``, which runs in the guest as root.

The guest is emulated and each start of a program takes it seconds, so all of it is one call of Debian's
python3: these modules may import that one's standard library and each other, nothing else.
"""
