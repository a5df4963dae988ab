"""A driver on a cluster of two nodes, one of which dies: `nodes.py FOLDER SPACE REPORTS`."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

from flowsearch.search.space import load
from flowsearch.search.study import run_space

if __name__ == "__main__":
    from ray.cluster_utils import Cluster

    folder, file, reports = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    node = cluster.add_node(num_cpus=1)

    def lose_a_node() -> None:
        journal = folder / "journal.jsonl"
        while not journal.exists() or journal.read_bytes().count(b'"report"') < reports:
            time.sleep(0.05)
        cluster.remove_node(node, allow_graceful=False)

    threading.Thread(target=lose_a_node, daemon=True).start()
    code = run_space(load(file), folder=folder, address=cluster.address, readings="toys:steady")
    cluster.shutdown()
    sys.exit(code)
