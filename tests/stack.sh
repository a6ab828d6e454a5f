#!/bin/bash
# The containers, really built and run: image, broker, producer, both routers, their end; then everything is removed.
#
#   tests/stack.sh                                                    # with Docker 25 or later
#   ../shared/ci/docker-stack --python 3.13 -- tests/stack.sh         # with an engine of its own and no registry
#
# It runs under a project name of its own beside a stack that is up already, if SOR_KAFKA_PORT names a free port.
# The user interface is left out: its image shows nothing about this project.
set -euo pipefail

readonly LIMIT=320 GRACE=30 # seconds for everything, and for clearing up after that
if [ -z "${STACK_BOUNDED-}" ]; then
  STACK_BOUNDED=1 exec timeout --kill-after=$GRACE $LIMIT bash "$0" "$@"
fi
cd "$(dirname "$0")/.."

# The defaults are what is tested, whatever the caller's shell or .env say.
port=${SOR_KAFKA_PORT:-9092}
unset "${!SOR_@}" "${!COMPOSE_@}" ORDER_SIZE LAMBDA_OVER LAMBDA_UNDER THETA_QUEUE STEP GREEDY_L2 TOPIC_NAME CSV_FILE
export SOR_KAFKA_PORT=$port
export COMPOSE_FILE=docker-compose-sor.yml COMPOSE_PROJECT_NAME=sor-stack-test COMPOSE_DISABLE_ENV_FILE=1
export COMPOSE_ANSI=never COMPOSE_PROGRESS=plain

pull=missing
if [ "${DOCKER_STACK-}" = 1 ]; then # only what is there can be had: the Python that was asked for
  pull=never
  python=$(docker image ls --format '{{.Tag}}' python | sed -n 's/^\(3\.[0-9]*\)-slim$/\1/p' | sort -V | tail -n 1)
  export PYTHON_VERSION=${PYTHON_VERSION:-$python}
fi

rows=$(($(grep -c . sample.csv) - 1))
work=$(mktemp -d)
passed=0 failed=

# --- helpers ---------------------------------------------------------------------------------------------------------

# what a failure needs to be understood, and then nothing is left
finish() {
  local status=$?
  trap '' TERM INT
  trap - EXIT
  if [ $status -ne 0 ]; then
    {
      tail -n 40 "$work"/*.log
      docker compose logs --no-color --timestamps --tail 30
      docker compose ps --all
      echo "stack: failed after $SECONDS s and $passed checks: ${failed:-see above}"
    } 2>&1 | cut -c 1-400 >&2 || true
  fi
  docker compose --profile l2 down --volumes --rmi local --timeout 5 >/dev/null 2>&1 || true
  rm -rf "$work"
  exit $status
}
trap finish EXIT
trap 'failed="not done within $LIMIT s"; exit 124' TERM
trap 'exit 130' INT

# check WHAT COMMAND...: a failing one ends the run
check() {
  local what=$1
  shift
  if ! "$@"; then
    failed="$what ($*)"
    exit 1
  fi
  passed=$((passed + 1))
  printf 'ok %3d s  %s\n' $SECONDS "$what"
}

# not COMMAND...: for check
not() { ! "$@" 2>/dev/null; }

# within SECONDS COMMAND...: again and again until it succeeds
within() {
  local end=$((SECONDS + $1))
  shift
  until "$@"; do
    [ $SECONDS -lt $end ] || return 1
    sleep 1
  done
}

# quietly NAME COMMAND...: the output is kept for a failure
quietly() {
  local log=$work/$1.log
  shift
  "$@" >"$log" 2>&1
}

up() { docker compose up --no-build --pull $pull --detach "$@"; }
inside() { docker compose exec -T "$@"; }
inspect() { docker inspect --format "$2" "$(docker compose ps --all --quiet "$1")"; }
says() { grep -qF -- "$1" "$2"; }
lines() { [ "$(wc -l <"$2")" -eq "$1" ]; }
same() { [ "$1" = "$2" ]; }
grouped() { sed -E ':a; s/([0-9])([0-9]{3})($|,)/\1,\2\3/; ta' <<<"$1"; } # 2,000

kafka() {
  local tool=$1
  shift
  inside kafka "/opt/kafka/bin/kafka-$tool.sh" --bootstrap-server kafka:19092 "$@"
}

# messages TOPIC MOST: what the topic holds; it ends when there are MOST, or after 8 s of silence
messages() {
  kafka console-consumer --topic "$1" --from-beginning --isolation-level read_committed \
    --max-messages "$2" --timeout-ms 8000 2>>"$work/console-consumer.log" || true
}

# logged SERVICE: its two streams apart
logged() { docker logs "$(docker compose ps --all --quiet "$1")" >"$work/$1.out" 2>"$work/$1.err"; }
has_logged() { logged "$1" && lines "$rows" "$work/$1.out"; }

# alive SECONDS: the image's own health check, run on a heartbeat of that age
alive() {
  local test
  test=$(inspect consumer '{{index .Config.Healthcheck.Test 1}}')
  inside consumer sh -c "SOR_HEARTBEAT_FILE=/tmp/probe; touch -d '$1 seconds ago' /tmp/probe; $test"
}
alive_without_file() {
  inside consumer sh -c "SOR_HEARTBEAT_FILE=/tmp/none; $(inspect consumer '{{index .Config.Healthcheck.Test 1}}')"
}

# routed SERVICE TOPIC: every row has one result, in the log and in the topic, and the two are the same bytes
routed() {
  local out=$work/$1.out topic=$work/$2.topic
  check "$1: $rows results on stdout" within 40 has_logged "$1"
  check "$1: nothing else on stdout" lines "$rows" <(grep '^{"symbol":' "$out")
  check "$1: its log tells every decision" lines "$rows" <(grep 'INFO - SOR Result \[AAPL\]: allocation=' "$work/$1.err")
  messages "$2" $((rows + 1)) >"$topic"
  check "$2: $rows results in the topic" lines "$rows" "$topic"
  check "$2: every message answered once" lines "$rows" <(grep -o '"source":{[^}]*}' "$topic" | sort -u)
  check "$2: the same as on stdout" cmp <(sort "$out") <(sort "$topic")
}

# --- image -----------------------------------------------------------------------------------------------------------

check 'images build' quietly build docker compose --profile l2 build
check 'broker and consumer get healthy' quietly up up --wait --wait-timeout 120 kafka consumer
check 'consumer is healthy' same "$(inspect consumer '{{.State.Health.Status}}')" healthy

inside consumer sor version >"$work/version.log" 2>&1
check 'compiled kernels' says 'kernels: cython' "$work/version.log"
inside consumer env SOR_PURE_PYTHON=1 sor version >"$work/pure.log" 2>&1 || true
check 'no other kernels are accepted' says 'SOR_REQUIRE_EXT=1, but' "$work/pure.log"
check 'user is not root' same "$(inside consumer id -u)" 10001
inside consumer touch /app/file >"$work/touch.log" 2>&1 || true
check 'root file system is read-only' says 'Read-only file system' "$work/touch.log"
check 'no capabilities' same "$(inside consumer grep CapEff /proc/1/status | tr -d '[:space:]')" CapEff:0000000000000000
check 'no new privileges' same "$(inside consumer grep NoNewPrivs /proc/1/status | tr -d '[:space:]')" NoNewPrivs:1
check 'no compiler in the image' inside consumer sh -c '! command -v gcc && ! command -v cc'
check 'health: a heartbeat of 20 s is fresh' alive 20
check 'health: one of 40 s is stale' not alive 40
check 'health: none at all is ill' not alive_without_file

# --- the stream ------------------------------------------------------------------------------------------------------

SOR_SPEED=0 check 'producer starts (and topics are made twice without harm)' quietly producer up producer
check 'producer ends with status 0' quietly wait timeout 60 docker compose wait producer
check 'producer exit code' same "$(inspect producer '{{.State.ExitCode}}')" 0
logged producer
check "all $rows rows acknowledged" says "sent $(grouped "$rows") messages to market_data, all acknowledged; 0 bad rows" "$work/producer.err"
routed consumer sor_results

check 'broker listens on loopback only' same "$(docker compose port kafka 9092)" "127.0.0.1:$port"
docker run --rm --read-only --tmpfs /tmp --network host sor-stack-test-consumer \
  consume --kafka-servers "localhost:$port" --group outside --max-messages 1 --idle-timeout 20 \
  >"$work/outside.out" 2>"$work/outside.log"
check 'a program outside the network is served' lines 1 <(grep '^{"symbol":' "$work/outside.out")

kafka console-producer --topic market_data <<<'not market data' 2>"$work/console-producer.log"
check 'a bad message becomes a dead letter' same "$(messages sor_dead_letters 1)" 'not market data'

# --- the second router -----------------------------------------------------------------------------------------------

ORDER_SIZE=3000 check 'consumer-l2 gets healthy' quietly up-l2 \
  up --wait --wait-timeout 60 --no-deps consumer-l2
routed consumer-l2 sor_results_l2
check 'consumer-l2 is greedy' lines "$rows" <(grep '"algorithm":"greedy_l2"' "$work/sor_results_l2.topic")
check 'ORDER_SIZE of the shell counts' lines "$rows" <(grep '"order_size":3000,' "$work/sor_results_l2.topic")

# --- the end ---------------------------------------------------------------------------------------------------------

check 'consumer is still healthy' same "$(inspect consumer '{{.State.Health.Status}}')" healthy
check 'consumer has never been restarted' same "$(inspect consumer '{{.RestartCount}}')" 0
check 'stop' quietly stop docker compose stop consumer consumer-l2
for service in consumer consumer-l2; do
  check "$service: SIGTERM leaves status 0" same "$(inspect $service '{{.State.ExitCode}}')" 0
  logged $service
  check "$service: the sum is right" says \
    "messages $(grouped $((rows + 1))) = results $(grouped "$rows") + skipped 0 + bad 1" "$work/$service.err"
done
kafka consumer-groups --describe --group sor >"$work/group.log" 2>&1
# shellcheck disable=SC2016  # the $ are awk's
check 'everything is committed' awk -v want=$((rows + 1)) \
  '$1 == "sor" { at += $4; lag += $6 } END { exit !(at == want && lag == 0) }' "$work/group.log"

check 'down' quietly down docker compose --profile l2 down --volumes --timeout 20
check 'nothing is left' same \
  "$(docker ps --all --quiet --filter label=com.docker.compose.project=$COMPOSE_PROJECT_NAME
  docker volume ls --quiet --filter label=com.docker.compose.project=$COMPOSE_PROJECT_NAME)" ''

echo "stack: $passed checks passed in $SECONDS s"
