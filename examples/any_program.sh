#!/bin/sh
# A "training" in another language: it reports while it runs, and its last line is the result.
x=$1 y=$2
for epoch in 1 2 3 4 5; do
    awk -v x="$x" -v y="$y" -v e="$epoch" 'BEGIN {
        printf "{\"epoch\": %d, \"of\": 5, \"accuracy\": %f, \"density\": %f}\n",
            e, (1 - (x - 0.3) ^ 2 - 0.2 * (1 - y)) * e / 5, y
    }'
done
