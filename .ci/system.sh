#!/bin/sh
# The few system libraries that Python packages cannot bring. As root on Debian or Ubuntu they are installed; otherwise they are named.
set -eu
run="libportaudio2 libgl1 libegl1 libxkbcommon0 libxkbcommon-x11-0 libdbus-1-3 libfontconfig1 libglib2.0-0 libxcb-cursor0 libxcb-icccm4
  libxcb-image0 libxcb-keysyms1 libxcb-randr0 libxcb-render-util0 libxcb-shape0 libxcb-xkb1"
test="$run xvfb xauth pulseaudio pulseaudio-utils libasound2-plugins flite espeak-ng ffmpeg"
case "${1:-run}" in
  run) wanted=$run ;;
  test) wanted=$test ;;
  *) echo "usage: system.sh run|test" >&2; exit 2 ;;
esac

case "$(uname -s)" in
  Linux) ;;
  *) exit 0 ;; # the Python packages for macOS and Windows bring PortAudio and Qt's libraries with them
esac
if ! command -v dpkg-query >/dev/null 2>&1; then
  if ! ldconfig -p 2>/dev/null | grep -q libportaudio; then
    echo "Mouthpiece needs PortAudio to hear the microphone: install it with your system's package manager (portaudio)."
  fi
  exit 0
fi
missing=""
for package in $wanted; do
  state=$(dpkg-query -W -f '${Status}' "$package" 2>/dev/null || true)
  [ "$state" = "install ok installed" ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" = 0 ]; then
  echo "Installing system libraries:$missing"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq && apt-get install -y -qq --no-install-recommends $missing >/dev/null
elif [ -t 0 ] && command -v sudo >/dev/null 2>&1; then
  echo "Mouthpiece needs these system libraries:$missing"
  printf "Install them now with sudo apt-get? [Y/n] "
  read -r answer
  case "$answer" in
    n* | N*) echo "Skipped. Parts that need them will say so." ;;
    *) sudo apt-get update -qq && sudo apt-get install -y --no-install-recommends $missing ;;
  esac
else
  echo "These system libraries are missing; parts that need them will say so. To install: sudo apt-get install$missing"
fi
