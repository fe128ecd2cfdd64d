#!/bin/sh
# Put Beam's job server with an embedded Flink into work/flink, by Maven and from where its settings say (190 MB).
# Does nothing when it is there. Usage: scripts/fetch_flink.sh
set -eu
cd "$(dirname "$0")/.."
target=work/flink

need() {
    "$1" -version >/dev/null 2>&1 && return
    echo "error: Flink needs $2, but \`$1\` does not run here." >&2
    echo "Cure: install it and put it on the PATH (on Debian: apt-get install openjdk-17-jdk-headless maven)" >&2
    exit 2
}

need java "Java 11 or 17"
wanted=$(cksum < scripts/flink_job_server.xml)
if [ -f $target/job-server.jar ] && [ "$(cat $target/.fetched 2>/dev/null)" = "$wanted" ]; then
    exit 0
fi
need mvn Maven
echo "Fetching Flink into $target"
rm -rf $target
maven="mvn --batch-mode --quiet -Dstyle.color=never --file scripts/flink_job_server.xml"
if ! $maven dependency:copy-dependencies jar:jar; then
    echo "error: Maven could not fetch the libraries that scripts/flink_job_server.xml names (see above)." >&2
    echo "Cure: check the network and the mirrors in Maven's settings.xml, then run this again" >&2
    exit 1
fi
printf '%s\n' "$wanted" > $target/.fetched
