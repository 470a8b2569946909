#!/bin/sh
# User data for a builder instance of Debian's AMI, which brings no SSM agent. With agents_ssm the role agents
# keeps the agent in the image; without it use an instance with another way in, see variables.pkr.hcl.
set -eu
deb=$(mktemp --suffix=.deb)
python3 - "$deb" <<'PY'
import shutil, sys, urllib.request
url = "https://s3.amazonaws.com/ec2-downloads-windows/SSMAgent/latest/debian_amd64/amazon-ssm-agent.deb"
with urllib.request.urlopen(url, timeout=120) as answer, open(sys.argv[1], "wb") as file:
    shutil.copyfileobj(answer, file)
PY
dpkg --install "$deb"
rm -f "$deb"
systemctl enable --now amazon-ssm-agent.service
