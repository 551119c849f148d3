"""validate: a model run on shares and compared with onnxruntime; on this machine, or on three hosts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from onnxpuma.commands import arrays, differences, options, screen
from onnxpuma.commands.local import start_servers
from onnxpuma.errors import ConfigError, InputError

if TYPE_CHECKING:
    from onnxpuma.config import NetworkConfig
    from onnxpuma.graph.model import Graph
    from onnxpuma.plan.blueprint import Blueprint
    from onnxpuma.plan.owner_policy import Policy
    from onnxpuma.plan.plan import Plan
    from onnxpuma.roles.client.client import Dealt, Outcome

    Feed = dict[str, np.ndarray]

TOLERANCE = 0.02


def validate(
    model: options.Model,
    inputs: Annotated[
        Path | None,
        typer.Option("--inputs", metavar="X.npz", help="By default random inputs.", show_default=False),
    ] = None,
    cluster: Annotated[
        Path | None,
        typer.Option(
            "--cluster",
            metavar="FILE",
            help="Use the servers of this cluster.toml; by default, three are started on this machine.",
            show_default=False,
        ),
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option("--key", metavar="FILE", help="Your .secret file, with --cluster.", show_default=False),
    ] = None,
    dim: options.Dimensions = [],  # noqa: B006  (typer makes a new one)
    declared: options.Ranges = [],  # noqa: B006
    ring: options.Rings = [],  # noqa: B006
    seed: options.Seed = 0,
    bandwidth: options.Bandwidth = options.USUAL_BANDWIDTH,
    latency: options.Latency = options.USUAL_LATENCY,
    threads: options.Threads = 1,
    memory: options.Memory = None,
    public: options.Public = [],  # noqa: B006
    secret: options.Secret = [],  # noqa: B006
    served: options.ModelName = "",
    public_input: options.PublicInput = [],  # noqa: B006
    secret_input: options.SecretInput = [],  # noqa: B006
    calibrate: options.Calibrate = None,
    per_node: Annotated[
        bool,
        typer.Option(
            "--per-node",
            help="Open every value of a run in this process, and name the first node that departs.",
        ),
    ] = False,
    tolerance: Annotated[
        float | None,
        typer.Option(
            "--tolerance",
            min=0.0,
            metavar="PART",
            help="How far results may be apart, as a part of the largest value (absolute below 1); 0.02 by "
            "default. Beyond it the exit status is 8.",
            show_default=False,
        ),
    ] = None,
    json: options.AsJson = False,
) -> None:
    """Run a model on shares and compare it with onnxruntime: errors, time, bytes, rounds, memory."""
    from onnxpuma.check.validation import check_tolerance, reliable, validation
    from onnxpuma.commands.samples import read_samples
    from onnxpuma.config import NetworkConfig
    from onnxpuma.graph.folder import ONLY_GRAPH
    from onnxpuma.plan.owner_policy import Policy
    from onnxpuma.roles.owner.disclosure import here_alone
    from onnxpuma.roles.owner.owner import share_model

    if (cluster is None) != (key is None):
        raise ConfigError("--cluster and --key belong together", "pass both or neither")
    sizes = options.read_sizes(dim)
    network, allowed = options.read_network(bandwidth, latency), options.read_memory(memory)
    if cluster is not None and (network != NetworkConfig() or allowed):
        raise ConfigError(
            "--bandwidth, --latency and --memory are for servers on this machine",
            "omit them with --cluster: [network] and [memory] of those servers' cluster.toml say it",
        )
    model = _file(model)
    policy = Policy(
        public=public,
        secret=secret,
        public_inputs=public_input,
        secret_inputs=secret_input,
        ranges=options.read_ranges(declared),
        **options.read_rings(ring),
    )
    if per_node:
        if cluster is not None:
            raise ConfigError(
                "--per-node opens every value, but servers open none",
                "omit --cluster: all three parties then run in this process, where the weights are",
            )
        if tolerance is not None:
            raise ConfigError(
                "--tolerance is for results, but --per-node judges each node by what its operator declares",
                "omit one of the two",
            )
        _node_by_node(_prepared(model, policy, calibrate), _feed_of(inputs, sizes, seed), network, json)
        return
    began = perf_counter()
    with TemporaryDirectory(prefix="onnxpuma-") as folder:
        with screen.progress(f"reading {model.name}") as advance:
            if cluster is None:
                samples = read_samples(calibrate, [ONLY_GRAPH], model)
                shared = share_model(
                    model,
                    folder,
                    policy,
                    progress=advance,
                    samples=samples,
                    sizes=sizes,
                    review=here_alone,
                )
                blueprint = shared.blueprint
            else:
                blueprint, _ = _prepared(model, policy, calibrate)
            feed = _feed_of(inputs, sizes, seed)(blueprint)
        pause = perf_counter()  # the time of the references is not set-up
        reference, rounded = _references(model, blueprint, policy, feed)
        plans: list[Plan] = []

        def note(plan: Plan, _: object) -> None:
            plans.append(plan)

        began += perf_counter() - pause
        if cluster is None or key is None:
            asked = reliable(lambda: _run_here(folder, feed, threads, public_input, network, allowed, note))
        else:
            asked = reliable(lambda: _ask(cluster, key, blueprint, feed, public_input, note, served))
        outcome, unreliable = asked
        setup = perf_counter() - began - outcome.seconds
    found = validation(
        outcome.outputs, reference, outcome.reports, outcome.seconds, setup, rounded, plans[-1]
    )
    if json:
        screen.say_json({**found.as_dict(), "reliable": unreliable is None})
    else:
        differences.show(found, {name: array.shape for name, array in feed.items()})
    if unreliable is not None:
        raise unreliable
    check_tolerance(found, TOLERANCE if tolerance is None else tolerance)


def _references(model: Path, blueprint: Blueprint, policy: Policy, feed: Feed) -> tuple[Feed, Feed | None]:
    """The results to compare with; and those of the file itself, if it rounds differently and onnxruntime can
    run it (it lacks most operators on bfloat16)."""
    from onnxpuma.check.validation import rounds, run_in_the_clear
    from onnxpuma.graph.reference import run_canonical

    if not rounds(blueprint.recognised):
        return run_in_the_clear(model, feed), None
    precise = run_canonical(_prepared(model, policy)[1], feed)
    try:
        return precise, run_in_the_clear(model, feed)
    except InputError as error:
        screen.note(f"Compared only with the graph that runs, in single precision: {error.message}")
        return precise, None


def _prepared(model: Path, policy: Policy, calibrate: Path | None = None) -> tuple[Blueprint, Graph]:
    from onnxpuma.commands.samples import read_samples
    from onnxpuma.graph.folder import ONLY_GRAPH
    from onnxpuma.plan.declared import declare_all
    from onnxpuma.plan.examine.kept_bounds import settled
    from onnxpuma.plan.examine.widths import check_rings, with_widths
    from onnxpuma.plan.prepare import prepare
    from onnxpuma.roles.owner.samples import calibrated

    blueprint, graph = prepare(model, policy)
    for samples in read_samples(calibrate, [ONLY_GRAPH], model).values():
        blueprint = calibrated(blueprint, graph, samples)
    blueprint = settled({ONLY_GRAPH: declare_all(blueprint, policy.ranges)})[ONLY_GRAPH]
    check_rings(policy, {ONLY_GRAPH: blueprint})
    return with_widths(blueprint, policy), graph


def _node_by_node(
    prepared: tuple[Blueprint, Graph],
    feed: Callable[[Blueprint], Feed],
    network: NetworkConfig,
    json: bool,
) -> None:
    from onnxpuma.check.trace import trace
    from onnxpuma.commands import per_node
    from onnxpuma.roles.request.network import network_of

    blueprint, graph = prepared
    with screen.progress("computing on shares and in the clear") as advance:
        found = trace(blueprint, graph, feed(blueprint), advance, network_of(network))
    if json:
        screen.say_json(found.as_dict())
    else:
        per_node.show(found)


def _feed_of(inputs: Path | None, sizes: dict[str, int], seed: int) -> Callable[[Blueprint], Feed]:
    """Random inputs, or those of the file."""
    from onnxpuma.plan.examine.example import draw_inputs
    from onnxpuma.plan.examine.support import fitting_shapes
    from onnxpuma.roles.request.feed import check_feed

    if inputs is not None and sizes:
        raise ConfigError("--dim is for random inputs", "omit it with --inputs")

    def feed(blueprint: Blueprint) -> Feed:
        if inputs is None:
            return draw_inputs(blueprint, fitting_shapes(blueprint, sizes), seed)
        checked = check_feed(blueprint, arrays.read_arrays(inputs))
        return {name: np.asarray(value) for name, value in checked.items()}

    return feed


def _file(model: Path) -> Path:
    """The file of a model's only graph; a model of several must be validated file by file."""
    from onnxpuma.graph.folder import find

    paths = list(dict.fromkeys(source.path for source in find(model).sources))
    if len(paths) > 1:
        raise ConfigError(
            f"the model in {model} has several graphs",
            f"validate them one by one: {', '.join(map(str, paths))}",
        )
    return paths[0]


def _ask(
    cluster: Path,
    key: Path,
    blueprint: Blueprint,
    feed: Feed,
    public_inputs: list[str],
    note: Dealt,
    served: str,
) -> Outcome:
    from onnxpuma.config import read_cluster
    from onnxpuma.roles.client.client import Client
    from onnxpuma.transport.curve import read_secret_key

    config, pair = read_cluster(cluster), read_secret_key(key)
    with Client(config, pair, model_name=served) as there:
        if any(graph.noised is not None for graph in there.graphs.values()):
            raise ConfigError(
                "these servers add noise to their answers, which tells nothing of their accuracy",
                "omit --cluster: a run on this machine compares the model without noise",
            )
    asked = Client(config, pair, blueprint, public_inputs=public_inputs, model_name=served)
    with screen.progress("computing on shares") as advance, asked as client:
        return client.run(feed, progress=advance, dealt=note)


def _run_here(
    folder: str,
    feed: Feed,
    threads: int,
    public_inputs: list[str],
    network: NetworkConfig,
    memory: int | None,
    note: Dealt,
) -> Outcome:
    options = {"public_inputs": public_inputs, "network": network, "memory": memory}
    with (
        start_servers(folder, threads, **options) as servers,
        servers.client() as client,
        screen.progress("computing on shares") as advance,
    ):
        return client.run(feed, progress=advance, dealt=note)
