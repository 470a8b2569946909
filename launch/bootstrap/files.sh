#!/bin/sh
# Prints for each file in the arguments a line: no, or its content in base64.
for file; do
    if [ -f "$file" ]; then
        base64 -w 0 <"$file" && echo
    else
        echo no
    fi
done
