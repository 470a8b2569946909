#!/kiln-root/bin/sh
# First process of Docker's container: makes the folder at /kiln-root the root, then becomes the command.
#
# Docker has no option for that. The image holds this script and links to the libraries in the folder, whose own
# programs run it. Where there is a /kiln-layer, it takes the writes, and the folder stays as it is.
set -eu

root=/kiln-root
layer=/kiln-layer
PATH=$root/usr/bin:$root/usr/sbin

# What Docker has mounted: its own, and our volumes. Read whole, for the list grows with each mount below.
points=
while read -r _ _ _ _ point _; do
    case $point in
    / | "$root" | "$layer") ;;
    *) points="$points $point" ;;
    esac
done </proc/self/mountinfo

if [ -d "$layer" ]; then
    mkdir "$layer/upper" "$layer/work" "$layer/merged"
    mount -t overlay -o "lowerdir=$root,upperdir=$layer/upper,workdir=$layer/work" overlay "$layer/merged"
    root=$layer/merged
fi

for point in $points; do
    [ ! -L "$root$point" ] || continue # it may lead out of the folder
    if [ -d "$point" ]; then
        mkdir -p "$root$point"
    elif [ ! -e "$root$point" ]; then
        install --mode 755 /dev/null "$root$point" # the mode that podman's runtime gives it: equal roots
    fi
    mount --bind "$point" "$root$point"
    # systemd keeps its units in the container's part of this tree: the only one, or the one of its name (v1).
    case $point in
    /sys/fs/cgroup | /sys/fs/cgroup/systemd)
        [ ! -e "$point/cgroup.procs" ] || mount -o remount,bind,rw "$root$point"
        ;;
    esac
done

cd "$root"
mkdir run/outer
pivot_root . run/outer
PATH=/usr/sbin:/usr/bin
umount -l /run/outer
rmdir /run/outer
exec "$@"
