#!/bin/sh
# Formats the data folders of a new cluster, once; a second run finds them and changes nothing.
#
#   DATA      the folders: $DATA/sequencer-<id>/replica, $DATA/storage-<id>/unit, $DATA/bootstrap
#   REPLICAS  "1=HOST:PORT 2=HOST:PORT ..."     UNITS  the same, spares too
#   CHAINS    "1,2,3 4,5,6": unit ids, from head to tail unit; a unit in none is a spare
#   SYNC      always (the default) or os        OWNER  whom the folders are given to, if set
set -eu

records="$DATA/bootstrap"
mkdir -p "$records"
sync_mode="${SYNC:-always}"

refuse() {
    echo "bootstrap: $1" >&2
    exit 3
}

# The cluster's id comes first: what is formatted with another one is of another cluster.
if [ ! -s "$records/cluster" ]; then
    for folder in "$DATA"/sequencer-*/replica "$DATA"/storage-*/unit; do
        # Never formatted again: it may hold the only copy of an entry, or a replica's votes.
        [ ! -e "$folder/identity" ] || refuse "$folder is formatted, but $records is empty"
    done
    od -An -N8 -tx1 /dev/urandom | tr -d ' \n' > "$records/cluster.new"
    mv "$records/cluster.new" "$records/cluster"
fi
cluster=$(cat "$records/cluster")

for unit in $UNITS; do
    id="${unit%%=*}"
    [ ! -s "$records/unit-$id" ] || continue
    folder="$DATA/storage-$id/unit"
    [ ! -e "$folder/identity" ] || refuse "$folder is formatted, but $records/unit-$id is missing"
    # A folder without an identity is what a format that was cut short left: nobody started it.
    rm -rf "$folder"
    said=$(corfu-storage format "$folder" --id "$id" --cluster "$cluster" --sync "$sync_mode")
    echo "$said"
    echo "${said##* }" > "$records/unit-$id.new"
    mv "$records/unit-$id.new" "$records/unit-$id"
done

if [ ! -s "$records/bootstrap.json" ]; then
    set -- --cluster "$cluster" --sync "$sync_mode"
    for replica in $REPLICAS; do set -- "$@" --replica "$replica"; done
    for chain in $CHAINS; do
        set -- "$@" --chain "$chain"
        for id in $(echo "$chain" | tr ',' ' '); do
            for unit in $UNITS; do
                [ "${unit%%=*}" != "$id" ] ||
                    set -- "$@" --unit "$id:$(cat "$records/unit-$id")=${unit#*=}"
            done
        done
    done
    corfu-sequencer bootstrap "$@" > "$records/bootstrap.json.new"
    mv "$records/bootstrap.json.new" "$records/bootstrap.json"
fi

for replica in $REPLICAS; do
    id="${replica%%=*}"
    [ ! -e "$records/replica-$id" ] || continue
    folder="$DATA/sequencer-$id/replica"
    if [ ! -e "$folder/identity" ]; then
        rm -rf "$folder"
        corfu-sequencer format "$folder" --id "$id" --bootstrap "$records/bootstrap.json"
    fi
    : > "$records/replica-$id"
done

if [ -n "${OWNER:-}" ]; then
    chown -R "$OWNER" "$DATA"/sequencer-* "$DATA"/storage-*
fi
echo "bootstrap: cluster $cluster is formatted"
