"""Runs a command in a small virtual machine that has a real v4l2loopback camera, for machines that may load no module.

    python tests/beds/camera_vm.py .venv/bin/python tests/beds/camera_bed.py python tests/beds/camera_vm.py --build
    # only fetch the kernel and compile the module (84 MB, kept in the cache)

The guest sees this machine's files, read-only, at the same paths; what the command writes there is forgotten. Its
output and exit status come back. There is no network and nothing on stdin. The kernel is Debian's own, the module is
compiled from Debian's v4l2loopback-dkms, and both are only unpacked into the cache: nothing is installed, and root is
not needed.

Debian packages: qemu-system-x86 busybox-static kmod cpio xz-utils gcc-12 make libelf1 (and ffmpeg for the camera bed).
Without KVM the guest runs at a tenth of the speed: use ready-made frames there, and no inference.
"""

import argparse
import lzma
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CACHE = Path(os.environ.get("CAMERA_VM_CACHE", Path.home() / ".cache" / "mouthpiece-camera-vm"))
LOOPBACK = "devices=1 video_nr=0 card_label=TestCam exclusive_caps=1 max_buffers=4"
MODULES = ("virtio_pci", "virtio_console", "9p", "9pnet_virtio", "overlay", "videodev")
XZ = b"\xfd7zXZ\0"
FAILED = 125  # the machine itself failed; other statuses are the command's

INIT = """#!/bin/busybox sh
/bin/busybox mkdir -p /sbin
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
give_up() { echo "camera_vm: $*" > /dev/kmsg; reboot -f; }
while read -r module options; do
  insmod "/modules/$module" $options || give_up "insmod $module"
done < /modules/order
share() { mount -t 9p -o "trans=virtio,version=9p2000.L,msize=1048576,$2" "$1" "$3" || give_up "mount $1"; }
share host ro,cache=loose /host
share talk cache=none /talk
mount -t tmpfs -o size=70% scratch /scratch
mkdir /scratch/upper /scratch/work
mount -t overlay -o lowerdir=/host,upperdir=/scratch/upper,workdir=/scratch/work overlay /root || give_up "mount overlay"
mkdir -p /root/proc /root/sys /root/dev /root/run
mount -t proc proc /root/proc
mount -t sysfs sys /root/sys
mount -t devtmpfs dev /root/dev
mkdir -p /root/dev/shm
mount -t tmpfs run /root/run
mount -t tmpfs shm /root/dev/shm
ln -sf /proc/self/fd /root/dev/fd
chmod 666 /root/dev/video*
ip link set lo up
cp /talk/command /root/run/command
stty -F /dev/hvc0 raw -echo
chroot /root /bin/bash /run/command < /dev/null > /dev/hvc0 2>&1
echo $? > /talk/status
sync
sleep 0.2
reboot -f
"""


def run(*words: str | Path, cwd: Path | None = None, log: Path | None = None) -> str:
    """Runs a program; its output. Ends this one with the log's last lines if it fails."""
    done = subprocess.run([str(word) for word in words], cwd=cwd, capture_output=True, text=True)
    if log is not None:
        log.open("a").write(done.stdout + done.stderr)
    if done.returncode:
        print(f"camera_vm: {words[0]} failed:\n{(done.stdout + done.stderr)[-2000:]}", file=sys.stderr)
        sys.exit(FAILED)
    return done.stdout


def build() -> None:
    """Fetches Debian's kernel and headers, unpacks them into the cache, and compiles the module for them."""
    shutil.rmtree(CACHE, ignore_errors=True)
    packages, tree = CACHE / "packages", CACHE / "tree"
    packages.mkdir(parents=True)
    image = re.search(r"Depends: linux-image-(\d\S+)", run("apt-cache", "depends", "linux-image-amd64"))
    if image is None:
        sys.exit("camera_vm: apt knows no linux-image-amd64; run apt-get update first")
    release = image[1]
    kbuild = re.search(r"Depends: (linux-kbuild-\S+)", run("apt-cache", "depends", f"linux-headers-{release}"))
    common = f"linux-headers-{release.removesuffix('-amd64')}-common"
    wanted = [
        f"linux-image-{release}",
        f"linux-headers-{release}",
        common,
        kbuild[1] if kbuild else "",
        "v4l2loopback-dkms",
    ]
    run("apt-get", "download", "-q", *filter(None, wanted), cwd=packages, log=CACHE / "log")
    for package in packages.glob("*.deb"):
        run("dpkg-deb", "-x", package, tree)
    headers = tree / "usr" / "src" / f"linux-headers-{release}"
    makefile = headers / "Makefile"
    makefile.write_text(makefile.read_text().replace("include /usr/src", f"include {tree}/usr/src"))
    source = next((tree / "usr" / "src").glob("v4l2loopback-*"))
    run("make", "-C", headers, f"M={source}", "modules", log=CACHE / "log")
    run("/sbin/depmod", "-b", tree, release)
    # The compressed kernel holds an xz stream; QEMU starts what is in it directly, which spares the guest the
    # unpacking.
    packed = (tree / "boot" / f"vmlinuz-{release}").read_bytes()
    (CACHE / "vmlinux").write_bytes(lzma.LZMADecompressor().decompress(packed[packed.index(XZ) :]))
    shutil.copy(source / "v4l2loopback.ko", CACHE)
    shutil.rmtree(packages)
    (CACHE / "release").write_text(release)


def make_initramfs(target: Path) -> None:
    """Busybox, the modules in the order in which they must be loaded, and `INIT`."""
    release = (CACHE / "release").read_text()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for folder in ("bin", "modules", "proc", "sys", "dev", "host", "talk", "scratch", "root"):
            (root / folder).mkdir()
        busybox = shutil.which("busybox")
        if busybox is None:
            sys.exit("camera_vm: busybox is missing; apt install busybox-static")
        shutil.copy(busybox, root / "bin" / "busybox")
        order: list[str] = []
        for module in MODULES:
            for line in run(
                "/sbin/modprobe", "-d", CACHE / "tree", "-S", release, "--show-depends", module
            ).splitlines():
                if line.startswith("insmod "):
                    file = Path(line.split()[1])
                    if file.name not in order:
                        shutil.copy(file, root / "modules")
                        order.append(file.name)
        shutil.copy(CACHE / "v4l2loopback.ko", root / "modules")
        order.append(f"v4l2loopback.ko {LOOPBACK}")
        (root / "modules" / "order").write_text("\n".join(order) + "\n")
        init = root / "init"
        init.write_text(INIT)
        init.chmod(0o755)
        files = "\n".join(str(path.relative_to(root)) for path in sorted(root.rglob("*")))
        with target.open("wb") as out:
            words = ["cpio", "-o", "-H", "newc", "--quiet"]
            subprocess.run(words, input=files.encode(), stdout=out, cwd=root, check=True)


def boot(command: list[str], accelerator: str, limit_s: float) -> int:
    """Starts the machine, prints what the command says, and returns its status."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        talk = folder / "talk"
        talk.mkdir()
        kept = {key: os.environ[key] for key in ("PATH", "HOME", "LANG", "PYTHONPATH") if key in os.environ}
        exports = "".join(f"export {key}={shlex.quote(value)}\n" for key, value in kept.items())
        (talk / "command").write_text(f"{exports}cd {shlex.quote(os.getcwd())}\n{shlex.join(command)}\n")
        make_initramfs(folder / "initramfs")
        # Without KVM the time-stamp counter is miscalibrated now and then on a busy host: the guest keeps time by the
        # HPET.
        clock = "" if accelerator == "kvm" else "clocksource=hpet tsc=unstable"
        words = [
            "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-machine", "q35",
            "-accel", "kvm" if accelerator == "kvm" else "tcg,thread=multi", "-cpu", "host" if accelerator == "kvm" else "Nehalem",
            "-smp", "2", "-m", "3072", "-kernel", str(CACHE / "vmlinux"), "-initrd", str(folder / "initramfs"),
            "-append", f"console=ttyS0 quiet loglevel=4 panic=-1 reboot=t mitigations=off nokaslr {clock}",
            "-serial", f"file:{folder / 'kernel.log'}", "-chardev", "stdio,id=out,signal=off", "-device", "virtio-serial-pci",
            "-device", "virtconsole,chardev=out", "-object", "rng-random,id=rng,filename=/dev/urandom",
            "-device", "virtio-rng-pci,rng=rng",
        ]  # fmt: skip
        for tag, path, more in (("host", "/", ",readonly=on"), ("talk", str(talk), "")):
            words += ["-fsdev", f"local,id={tag},path={path},security_model=none,multidevs=remap{more}"]
            words += ["-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"]
        began_s = time.monotonic()
        try:
            subprocess.run(words, stdin=subprocess.DEVNULL, timeout=limit_s, check=False)
        except subprocess.TimeoutExpired:
            print(f"camera_vm: not done within {limit_s:.0f} s", file=sys.stderr)
            return 124
        status = talk / "status"
        if not status.exists():
            tail = (folder / "kernel.log").read_text(errors="replace")[-3000:]
            print(f"camera_vm: the machine failed after {time.monotonic() - began_s:.0f} s:\n{tail}", file=sys.stderr)
            return FAILED
        return int(status.read_text())


def main() -> int:
    """Builds if need be, boots, runs."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--build", action="store_true")
    words.add_argument("--accelerator", choices=("tcg", "kvm"), default="tcg")
    words.add_argument("--limit", type=float, default=600.0, help="seconds")
    words.add_argument("command", nargs=argparse.REMAINDER)
    asked = words.parse_args()
    if asked.build or not (CACHE / "release").exists():
        build()
    return boot(asked.command, asked.accelerator, asked.limit) if asked.command else 0


if __name__ == "__main__":
    sys.exit(main())
