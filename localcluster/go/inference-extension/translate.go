package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	extproc "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	hcm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	overridehost "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/override_host/v3"
	roundrobin "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/round_robin/v3"
	tls "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	upstream "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	metadata "github.com/envoyproxy/go-control-plane/envoy/type/metadata/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/envoyproxy/gateway/proto/extension"
)

// The names that the endpoint picker protocol gives to what proxy and picker tell each other.
const (
	pickedHeader      = "x-gateway-destination-endpoint"
	servedKey         = "x-gateway-destination-endpoint-served"
	metadataNamespace = "envoy.lb"
)

const (
	// The proxies' bootstrap configuration names this program so.
	discoveryCluster = "inference-extension"
	// No proxy knows this one; asking for it is answered with an error.
	noCluster       = "invalid-backend-cluster"
	protocolOptions = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
	connectTimeout  = 5 * time.Second
	pickTimeout     = 10 * time.Second
)

// extensionServer completes what Envoy Gateway made of routes whose backends are pools.
type extensionServer struct {
	extension.UnimplementedEnvoyGatewayExtensionServer
	api client.Reader
}

// rule says where the traffic of one rule of a route goes.
type rule struct {
	shares []share
	// others is the weight of all backends that Envoy Gateway knows.
	others uint32
}

// share is a pool's part of the traffic.
type share struct {
	pool   types.NamespacedName
	weight uint32
}

// PostTranslateModify is called with a complete configuration, from which Envoy Gateway has left
// out the backends that it does not know.
func (s *extensionServer) PostTranslateModify(
	ctx context.Context, request *extension.PostTranslateModifyRequest,
) (*extension.PostTranslateModifyResponse, error) {
	pools, _, err := listPools(ctx, s.api)
	if err != nil {
		return nil, err
	}
	routes := &gatewayv1.HTTPRouteList{}
	if err := s.api.List(ctx, routes); err != nil {
		return nil, err
	}
	used, err := direct(request.Routes, rulesOf(routes.Items), pools)
	if err != nil {
		return nil, err
	}
	clusters := request.Clusters
	var filters []*hcm.HttpFilter
	for i := range used {
		added, err := clustersOf(&used[i])
		if err != nil {
			return nil, err
		}
		clusters = append(clusters, added...)
		filter, err := pickerFilter(&used[i])
		if err != nil {
			return nil, err
		}
		filters = append(filters, filter)
	}
	for _, one := range request.Listeners {
		if err := addFilters(one, filters); err != nil {
			return nil, err
		}
	}
	return &extension.PostTranslateModifyResponse{
		Clusters:  clusters,
		Secrets:   request.Secrets,
		Listeners: request.Listeners,
		Routes:    request.Routes,
	}, nil
}

// rulesOf has the rules that refer to pools, under the names that Envoy Gateway gives to rules.
func rulesOf(routes []gatewayv1.HTTPRoute) map[string]rule {
	found := map[string]rule{}
	for i := range routes {
		for number := range routes[i].Spec.Rules {
			var one rule
			for _, ref := range routes[i].Spec.Rules[number].BackendRefs {
				weight := uint32(ptr.Deref(ref.Weight, 1))
				if key, isPool := poolOf(ref.BackendObjectReference, routes[i].Namespace); !isPool {
					one.others += weight
				} else if weight > 0 {
					one.shares = append(one.shares, share{key, weight})
				}
			}
			if len(one.shares) > 0 {
				found[fmt.Sprintf("httproute/%s/%s/rule/%d", routes[i].Namespace, routes[i].Name, number)] = one
			}
		}
	}
	return found
}

// direct sends the pools' shares of the traffic to the pools, and returns the pools in use.
func direct(configurations []*route.RouteConfiguration, rules map[string]rule, pools []pool) ([]pool, error) {
	used := map[types.NamespacedName]bool{}
	for _, configuration := range configurations {
		for _, host := range configuration.VirtualHosts {
			for _, one := range host.Routes {
				name, _, _ := strings.Cut(one.Name, "/match/")
				wanted, refersToPools := rules[name]
				action := one.GetRoute()
				if !refersToPools || action == nil {
					continue
				}
				split := &route.WeightedCluster{}
				if given := action.GetWeightedClusters(); given != nil {
					split = given
				} else if wanted.others > 0 {
					split.Clusters = append(split.Clusters, &route.WeightedCluster_ClusterWeight{
						Name: action.GetCluster(), Weight: wrapperspb.UInt32(wanted.others),
					})
				}
				for _, part := range wanted.shares {
					entry, err := weighted(part, pools)
					if err != nil {
						return nil, err
					}
					split.Clusters = append(split.Clusters, entry)
					used[part.pool] = true
				}
				action.ClusterSpecifier = &route.RouteAction_WeightedClusters{WeightedClusters: split}
				action.ClusterNotFoundResponseCode = route.RouteAction_INTERNAL_SERVER_ERROR
			}
		}
	}
	return slices.DeleteFunc(slices.Clone(pools), func(one pool) bool {
		return !used[one.key()] || !one.hasPicker()
	}), nil
}

// weighted is the entry of a pool in a split, with the filter of its picker turned on.
//
// The filter belongs to the entry and not to the route, because each pool has its own picker.
func weighted(part share, pools []pool) (*route.WeightedCluster_ClusterWeight, error) {
	entry := &route.WeightedCluster_ClusterWeight{Weight: wrapperspb.UInt32(part.weight), Name: noCluster}
	known := slices.IndexFunc(pools, func(one pool) bool { return one.key() == part.pool })
	if known < 0 || !pools[known].hasPicker() {
		return entry, nil
	}
	entry.Name = poolName(part.pool)
	on, err := anypb.New(&route.FilterConfig{Config: &anypb.Any{}})
	if err != nil {
		return nil, err
	}
	entry.TypedPerFilterConfig = map[string]*anypb.Any{pickerName(part.pool): on}
	return entry, nil
}

// addFilters puts filters before the last one, which is the router, wherever HTTP is spoken.
func addFilters(one *listener.Listener, filters []*hcm.HttpFilter) error {
	chains := one.FilterChains
	if one.DefaultFilterChain != nil {
		chains = append(slices.Clone(chains), one.DefaultFilterChain)
	}
	for _, chain := range chains {
		for _, filter := range chain.Filters {
			manager := &hcm.HttpConnectionManager{}
			if len(filters) == 0 || !filter.GetTypedConfig().MessageIs(manager) {
				continue
			}
			if err := filter.GetTypedConfig().UnmarshalTo(manager); err != nil {
				return err
			}
			manager.HttpFilters = slices.Insert(manager.HttpFilters, len(manager.HttpFilters)-1, filters...)
			packed, err := anypb.New(manager)
			if err != nil {
				return err
			}
			filter.ConfigType = &listener.Filter_TypedConfig{TypedConfig: packed}
		}
	}
	return nil
}

// pickerFilter asks a pool's picker; it is off until an entry of a split turns it on.
func pickerFilter(one *pool) (*hcm.HttpFilter, error) {
	packed, err := anypb.New(&extproc.ExternalProcessor{
		GrpcService: &core.GrpcService{
			TargetSpecifier: &core.GrpcService_EnvoyGrpc_{
				EnvoyGrpc: &core.GrpcService_EnvoyGrpc{ClusterName: pickerName(one.key())},
			},
		},
		FailureModeAllow: one.Spec.EndpointPickerRef.FailureMode == failOpen,
		MessageTimeout:   durationpb.New(pickTimeout),
		// The endpoint picker protocol asks for these.
		ProcessingMode: &extproc.ProcessingMode{
			RequestHeaderMode:   extproc.ProcessingMode_SEND,
			RequestBodyMode:     extproc.ProcessingMode_FULL_DUPLEX_STREAMED,
			RequestTrailerMode:  extproc.ProcessingMode_SEND,
			ResponseHeaderMode:  extproc.ProcessingMode_SEND,
			ResponseBodyMode:    extproc.ProcessingMode_FULL_DUPLEX_STREAMED,
			ResponseTrailerMode: extproc.ProcessingMode_SEND,
		},
		// The pool was drawn by weight; what its picker says must not draw again.
		RouteCacheAction: extproc.ExternalProcessor_RETAIN,
		MetadataOptions: &extproc.MetadataOptions{
			ForwardingNamespaces: &extproc.MetadataOptions_MetadataNamespaces{
				Untyped: []string{metadataNamespace},
			},
		},
	})
	if err != nil {
		return nil, err
	}
	return &hcm.HttpFilter{
		Name:       pickerName(one.key()),
		Disabled:   true,
		ConfigType: &hcm.HttpFilter_TypedConfig{TypedConfig: packed},
	}, nil
}

// clustersOf are a pool's pods and its picker.
func clustersOf(one *pool) ([]*cluster.Cluster, error) {
	roundRobin, err := policy("envoy.load_balancing_policies.round_robin", &roundrobin.RoundRobin{})
	if err != nil {
		return nil, err
	}
	// What the picker said comes first; without its word, as when it failed open, any pod will do.
	pick, err := policy("envoy.load_balancing_policies.override_host", &overridehost.OverrideHost{
		OverrideHostSources: []*overridehost.OverrideHost_OverrideHostSource{{Header: pickedHeader}},
		SelectedHostKey: &metadata.MetadataKey{
			Key: metadataNamespace,
			Path: []*metadata.MetadataKey_PathSegment{
				{Segment: &metadata.MetadataKey_PathSegment_Key{Key: servedKey}},
			},
		},
		FallbackPolicy: roundRobin,
	})
	if err != nil {
		return nil, err
	}
	http1 := &upstream.HttpProtocolOptions_ExplicitHttpConfig{
		ProtocolConfig: &upstream.HttpProtocolOptions_ExplicitHttpConfig_HttpProtocolOptions{},
	}
	http2 := &upstream.HttpProtocolOptions_ExplicitHttpConfig{
		ProtocolConfig: &upstream.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{
			Http2ProtocolOptions: &core.Http2ProtocolOptions{},
		},
	}
	spoken := http1
	if one.Spec.AppProtocol == h2c {
		spoken = http2
	}
	toPods, err := protocol(spoken)
	if err != nil {
		return nil, err
	}
	toPicker, err := protocol(http2)
	if err != nil {
		return nil, err
	}
	// Pickers make their own certificate, which nobody signed.
	secured, err := anypb.New(&tls.UpstreamTlsContext{
		CommonTlsContext: &tls.CommonTlsContext{AlpnProtocols: []string{"h2"}},
	})
	if err != nil {
		return nil, err
	}
	return []*cluster.Cluster{
		{
			Name:                          poolName(one.key()),
			ClusterDiscoveryType:          &cluster.Cluster_Type{Type: cluster.Cluster_EDS},
			EdsClusterConfig:              &cluster.Cluster_EdsClusterConfig{EdsConfig: discovery()},
			ConnectTimeout:                durationpb.New(connectTimeout),
			LoadBalancingPolicy:           pick,
			TypedExtensionProtocolOptions: toPods,
		},
		{
			Name:                          pickerName(one.key()),
			ClusterDiscoveryType:          &cluster.Cluster_Type{Type: cluster.Cluster_EDS},
			EdsClusterConfig:              &cluster.Cluster_EdsClusterConfig{EdsConfig: discovery()},
			ConnectTimeout:                durationpb.New(connectTimeout),
			TypedExtensionProtocolOptions: toPicker,
			TransportSocket: &core.TransportSocket{
				Name:       "envoy.transport_sockets.tls",
				ConfigType: &core.TransportSocket_TypedConfig{TypedConfig: secured},
			},
		},
	}, nil
}

func policy(name string, config proto.Message) (*cluster.LoadBalancingPolicy, error) {
	packed, err := anypb.New(config)
	if err != nil {
		return nil, err
	}
	return &cluster.LoadBalancingPolicy{
		Policies: []*cluster.LoadBalancingPolicy_Policy{
			{TypedExtensionConfig: &core.TypedExtensionConfig{Name: name, TypedConfig: packed}},
		},
	}, nil
}

func protocol(spoken *upstream.HttpProtocolOptions_ExplicitHttpConfig) (map[string]*anypb.Any, error) {
	packed, err := anypb.New(&upstream.HttpProtocolOptions{
		UpstreamProtocolOptions: &upstream.HttpProtocolOptions_ExplicitHttpConfig_{ExplicitHttpConfig: spoken},
	})
	return map[string]*anypb.Any{protocolOptions: packed}, err
}

// discovery is where proxies learn the pods of a pool: from this program.
func discovery() *core.ConfigSource {
	return &core.ConfigSource{
		ResourceApiVersion: core.ApiVersion_V3,
		ConfigSourceSpecifier: &core.ConfigSource_ApiConfigSource{
			ApiConfigSource: &core.ApiConfigSource{
				ApiType:             core.ApiConfigSource_GRPC,
				TransportApiVersion: core.ApiVersion_V3,
				GrpcServices: []*core.GrpcService{{
					TargetSpecifier: &core.GrpcService_EnvoyGrpc_{
						EnvoyGrpc: &core.GrpcService_EnvoyGrpc{ClusterName: discoveryCluster},
					},
				}},
			},
		},
	}
}

// locality has a host at some of its ports.
func locality(host string, ports ...int32) *endpoint.LocalityLbEndpoints {
	found := &endpoint.LocalityLbEndpoints{}
	for _, number := range ports {
		found.LbEndpoints = append(found.LbEndpoints, &endpoint.LbEndpoint{
			HostIdentifier: &endpoint.LbEndpoint_Endpoint{
				Endpoint: &endpoint.Endpoint{Address: &core.Address{Address: &core.Address_SocketAddress{
					SocketAddress: &core.SocketAddress{
						Address:       host,
						PortSpecifier: &core.SocketAddress_PortValue{PortValue: uint32(number)},
					},
				}}},
			},
		})
	}
	return found
}
