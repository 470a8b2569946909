#!/bin/bash
# Run once on an AppStream image builder, as root: makes the account by which Ansible comes in over ssh, here and
# on every builder made from this one's image.
set -euo pipefail

if [ "$(id -u)" -ne 0 ]; then
    echo "run it as root: sudo bash $0" >&2
    exit 1
fi

user='@USER@'
port='@PORT@'
key='@KEY@'

# ---- the account: no password, one key
id -u "$user" >/dev/null 2>&1 || useradd --create-home --shell /bin/bash --comment 'Ansible of kiln' "$user"
home=$(getent passwd "$user" | cut -d: -f6)
install -d -m 700 -o "$user" -g "$user" "$home/.ssh"
printf '%s\n' "$key" >"$home/.ssh/authorized_keys"
chown "$user:$user" "$home/.ssh/authorized_keys"
chmod 600 "$home/.ssh/authorized_keys"
if command -v restorecon >/dev/null; then
    restorecon -R "$home/.ssh"
fi
printf '%s ALL=(ALL) NOPASSWD: ALL\n' "$user" >/etc/sudoers.d/90-kiln
chmod 440 /etc/sudoers.d/90-kiln
visudo --check --file=/etc/sudoers.d/90-kiln

# ---- a Python that Ansible takes: RHEL 8 and Rocky 8 begin with 3.6, which it no longer does
if ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 9))' && ! command -v python3.11 >/dev/null; then
    dnf --assumeyes install python3.11
fi

# ---- the way out: an image that users get must have none of this
cat >/usr/local/sbin/kiln-leave <<END
#!/bin/bash
set -euo pipefail
if [ "\${1:-}" = --at-next-start ]; then
    printf '%s\n' '[Unit]' 'Description=Take the account of kiln away' 'Before=sshd.service' '[Service]' \\
        'Type=oneshot' 'ExecStart=/usr/local/sbin/kiln-leave' '[Install]' 'WantedBy=multi-user.target' \\
        >/etc/systemd/system/kiln-leave.service
    systemctl enable kiln-leave.service
    exit 0
fi
systemctl disable kiln-leave.service
rm -f /etc/sudoers.d/90-kiln /etc/systemd/system/kiln-leave.service
userdel --force --remove '$user'
rm -f /usr/local/sbin/kiln-leave
END
chmod 700 /usr/local/sbin/kiln-leave

# ---- ssh
if [ "$port" != 22 ]; then
    grep -qx "Port $port" /etc/ssh/sshd_config || printf 'Port %s\n' "$port" >>/etc/ssh/sshd_config
fi
systemctl enable sshd.service
systemctl restart sshd.service

echo "Ready: $user may come in over ssh at port $port. kiln goes on by itself; close this session."
