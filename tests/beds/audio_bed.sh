#!/bin/sh
# A microphone and a loudspeaker for tests, without a sound card and without root.
#
# A pulseaudio server of our own holds a sink that leads nowhere. What is played into it is heard by whoever listens to its
# monitor, which is the default source. ALSA's default device is the pulse plugin, so PortAudio opens it as it would open a
# headset. Nothing outside the folder $AUDIO_BED is touched.
#
#   audio_bed.sh start | stop | env      the server; `env` prints the variables that lead programs to it (for eval)
#   audio_bed.sh run COMMAND...          start it if need be and run a command with it
#   audio_bed.sh say FILE.wav            play a file into the microphone
#   audio_bed.sh unplug | plug           take the microphone away from running programs, and give it back
#   audio_bed.sh speaker                 add an output (while there is one, unplug moves listeners to its monitor)
#   audio_bed.sh freeze | thaw           hold the server still; afterwards it delivers its backlog in a burst
#
# Debian packages: pulseaudio pulseaudio-utils libasound2-plugins libportaudio2
set -eu
: "${AUDIO_BED:=${TMPDIR:-/tmp}/mouthpiece-audio-bed.$(id -u)}"
socket=$AUDIO_BED/native

env_lines() {
  printf 'export %s\n' "PULSE_SERVER=unix:$socket" "PULSE_COOKIE=$AUDIO_BED/cookie" "PULSE_STATE_PATH=$AUDIO_BED" \
    "PULSE_RUNTIME_PATH=$AUDIO_BED/run" "ALSA_CONFIG_PATH=$AUDIO_BED/alsa.conf"
}

answers() { [ -S "$socket" ] && PULSE_SERVER=unix:$socket timeout 5 pactl info >/dev/null 2>&1; }

ours() { # is the process that we noted still our server?
  [ -r "$AUDIO_BED/pid" ] && tr '\0' ' ' <"/proc/$(cat "$AUDIO_BED/pid")/cmdline" 2>/dev/null | grep -q "$socket"
}

plug() { # norewinds: a null sink that rewinds sleeps for seconds, and the first sound comes late
  pactl load-module module-null-sink sink_name=mic norewinds=1 rate=48000 channels=1 channel_map=mono >"$AUDIO_BED/mic"
  pactl set-default-source mic.monitor
}

start() {
  answers && return
  stop
  mkdir -p "$AUDIO_BED/run"
  chmod 700 "$AUDIO_BED" "$AUDIO_BED/run"
  cat >"$AUDIO_BED/alsa.conf" <<'CONF'
</usr/share/alsa/alsa.conf>
pcm.!default { type pulse }
ctl.!default { type pulse }
pcm.headset { type pulse device mic.monitor hint { show on description "Test headset" } }
CONF
  eval "$(env_lines)"
  env -u PULSE_SERVER pulseaudio -n --daemonize=no --use-pid-file=no --exit-idle-time=-1 --realtime=no --high-priority=no \
    --log-target="file:$AUDIO_BED/log" -L "module-native-protocol-unix socket=$socket auth-anonymous=1" </dev/null >/dev/null 2>&1 &
  echo $! >"$AUDIO_BED/pid"
  for _ in $(seq 100); do
    if answers; then
      plug
      return
    fi
    sleep 0.1
  done
  echo "audio_bed: the server does not answer; see $AUDIO_BED/log" >&2
  return 1
}

stop() {
  if ours; then
    server=$(cat "$AUDIO_BED/pid")
    kill -CONT "$server" 2>/dev/null || true
    kill "$server" 2>/dev/null || true
    for _ in $(seq 30); do kill -0 "$server" 2>/dev/null || break; sleep 0.1; done
    kill -9 "$server" 2>/dev/null || true
  fi
  rm -rf "$AUDIO_BED"
}

command=${1:-help}
[ $# -eq 0 ] || shift
case $command in
  start) start ;;
  stop) stop ;;
  env) env_lines ;;
  run) start; eval "$(env_lines)"; exec "$@" ;;
  say) eval "$(env_lines)"; exec paplay --device=mic --latency-msec=2000 "$@" ;;
  plug) eval "$(env_lines)"; plug ;;
  unplug) eval "$(env_lines)"; pactl unload-module "$(cat "$AUDIO_BED/mic")" ;;
  speaker)
    eval "$(env_lines)"
    pactl load-module module-null-sink sink_name=speaker norewinds=1 rate=48000 channels=2 >"$AUDIO_BED/speaker"
    pactl set-default-sink speaker
    pactl set-default-source mic.monitor
    ;;
  freeze) ours && kill -STOP "$(cat "$AUDIO_BED/pid")" ;;
  thaw) ours && kill -CONT "$(cat "$AUDIO_BED/pid")" ;;
  *) sed -n '2,18p' "$0"; exit 2 ;;
esac
