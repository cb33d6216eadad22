package main

import (
	"context"
	"slices"

	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	xds "github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

const gatewayController = "gateway.envoyproxy.io/gatewayclass-controller"

// controller keeps the endpoints and the status of all pools; clusters with many are not its trade.
type controller struct {
	client    client.Client
	endpoints *cache.LinearCache
}

func addController(manager ctrl.Manager, endpoints *cache.LinearCache) error {
	pools := &unstructured.Unstructured{}
	pools.SetGroupVersionKind(poolGVK)
	everything := handler.EnqueueRequestsFromMapFunc(func(context.Context, client.Object) []reconcile.Request {
		return []reconcile.Request{{NamespacedName: types.NamespacedName{Name: "everything"}}}
	})
	return ctrl.NewControllerManagedBy(manager).
		Named("inferencepool").
		Watches(pools, everything).
		Watches(&gatewayv1.HTTPRoute{}, everything).
		Watches(&corev1.Service{}, everything).
		Watches(&corev1.Pod{}, everything).
		Watches(&discoveryv1.EndpointSlice{}, everything).
		Complete(&controller{client: manager.GetClient(), endpoints: endpoints})
}

// Reconcile brings endpoints and status of every pool up to date.
func (c *controller) Reconcile(ctx context.Context, _ reconcile.Request) (reconcile.Result, error) {
	pools, objects, err := listPools(ctx, c.client)
	if err != nil {
		return reconcile.Result{}, err
	}
	routes := &gatewayv1.HTTPRouteList{}
	if err := c.client.List(ctx, routes); err != nil {
		return reconcile.Result{}, err
	}
	assignments := map[string]xds.Resource{}
	for i := range pools {
		assignment, err := c.assignment(ctx, &pools[i])
		if err != nil {
			return reconcile.Result{}, err
		}
		assignments[assignment.ClusterName] = assignment
		if pools[i].hasPicker() {
			picker, err := c.pickerAssignment(ctx, &pools[i])
			if err != nil {
				return reconcile.Result{}, err
			}
			assignments[picker.ClusterName] = picker
		}
		if err := c.writeStatus(ctx, &pools[i], &objects[i], routes.Items); err != nil {
			return reconcile.Result{}, client.IgnoreNotFound(err)
		}
	}
	c.endpoints.SetResources(assignments)
	return reconcile.Result{}, nil
}

// assignment has every target port of every pod of a pool that is ready.
func (c *controller) assignment(ctx context.Context, one *pool) (*endpoint.ClusterLoadAssignment, error) {
	pods := &corev1.PodList{}
	selector, err := metav1.LabelSelectorAsSelector(&one.Spec.Selector)
	if err != nil {
		return nil, err
	}
	if err := c.client.List(ctx, pods, &client.ListOptions{Namespace: one.Namespace, LabelSelector: selector}); err != nil {
		return nil, err
	}
	var ports []int32
	for _, target := range one.Spec.TargetPorts {
		ports = append(ports, target.Number)
	}
	found := &endpoint.LocalityLbEndpoints{}
	for _, pod := range pods.Items {
		if pod.DeletionTimestamp == nil && pod.Status.PodIP != "" && isReady(&pod) {
			found.LbEndpoints = append(found.LbEndpoints, locality(pod.Status.PodIP, ports...).LbEndpoints...)
		}
	}
	return &endpoint.ClusterLoadAssignment{
		ClusterName: poolName(one.key()),
		Endpoints:   []*endpoint.LocalityLbEndpoints{found},
	}, nil
}

// pickerAssignment has every ready endpoint of the Service of a pool's picker.
//
// A proxy that is told of none fails open before it has sent anything of a body, after which it
// could not; behind the Service's own address it would find out too late.
func (c *controller) pickerAssignment(ctx context.Context, one *pool) (*endpoint.ClusterLoadAssignment, error) {
	picker := one.Spec.EndpointPickerRef
	assignment := &endpoint.ClusterLoadAssignment{ClusterName: pickerName(one.key())}
	service := &corev1.Service{}
	if err := c.client.Get(ctx, types.NamespacedName{Namespace: one.Namespace, Name: picker.Name}, service); err != nil {
		return assignment, client.IgnoreNotFound(err)
	}
	wanted := slices.IndexFunc(service.Spec.Ports, func(port corev1.ServicePort) bool {
		return port.Port == picker.Port.Number
	})
	if wanted < 0 {
		return assignment, nil
	}
	found := &discoveryv1.EndpointSliceList{}
	labels := client.MatchingLabels{discoveryv1.LabelServiceName: picker.Name}
	if err := c.client.List(ctx, found, client.InNamespace(one.Namespace), labels); err != nil {
		return nil, err
	}
	all := &endpoint.LocalityLbEndpoints{}
	for _, slice := range found.Items {
		for _, port := range slice.Ports {
			if ptr.Deref(port.Name, "") != service.Spec.Ports[wanted].Name || port.Port == nil {
				continue
			}
			for _, one := range slice.Endpoints {
				if ptr.Deref(one.Conditions.Ready, true) && len(one.Addresses) > 0 {
					all.LbEndpoints = append(all.LbEndpoints, locality(one.Addresses[0], *port.Port).LbEndpoints...)
				}
			}
		}
	}
	assignment.Endpoints = []*endpoint.LocalityLbEndpoints{all}
	return assignment, nil
}

func isReady(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Status.Conditions, func(one corev1.PodCondition) bool {
		return one.Type == corev1.PodReady && one.Status == corev1.ConditionTrue
	})
}

// writeStatus tells for each Gateway with a route to the pool whether the pool works there.
func (c *controller) writeStatus(
	ctx context.Context, one *pool, object *unstructured.Unstructured, routes []gatewayv1.HTTPRoute,
) error {
	resolved, err := c.resolved(ctx, one)
	if err != nil {
		return err
	}
	// Others' entries stay.
	parents := slices.DeleteFunc(slices.Clone(one.Status.Parents), func(parent parentStatus) bool {
		return parent.ControllerName == gatewayController
	})
	for _, parent := range gatewaysOf(one, routes) {
		status := parentStatus{ParentRef: parent.ref, ControllerName: gatewayController}
		known := slices.IndexFunc(one.Status.Parents, func(old parentStatus) bool {
			return old.ParentRef == parent.ref && old.ControllerName == gatewayController
		})
		if known >= 0 {
			status.Conditions = slices.Clone(one.Status.Parents[known].Conditions)
		}
		meta.SetStatusCondition(&status.Conditions, accepted(one, parent.accepted))
		meta.SetStatusCondition(&status.Conditions, resolved)
		parents = append(parents, status)
	}
	if equality.Semantic.DeepEqual(parents, one.Status.Parents) {
		return nil
	}
	written, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&struct {
		Parents []parentStatus `json:"parents"`
	}{parents})
	if err != nil {
		return err
	}
	object = object.DeepCopy()
	object.Object["status"] = written
	return c.client.Status().Update(ctx, object)
}

// resolved says whether the pool's picker is there.
func (c *controller) resolved(ctx context.Context, one *pool) (metav1.Condition, error) {
	condition := metav1.Condition{
		Type: "ResolvedRefs", Status: metav1.ConditionTrue, Reason: "ResolvedRefs",
		ObservedGeneration: one.Generation,
	}
	if one.Spec.EndpointPickerRef == nil {
		return condition, nil
	}
	refuse := func(why string) metav1.Condition {
		condition.Status, condition.Reason, condition.Message = metav1.ConditionFalse, "InvalidExtensionRef", why
		return condition
	}
	if !one.hasPicker() {
		return refuse("the endpoint picker must be a Service with a port"), nil
	}
	name := types.NamespacedName{Namespace: one.Namespace, Name: one.Spec.EndpointPickerRef.Name}
	err := c.client.Get(ctx, name, &corev1.Service{})
	if err != nil && client.IgnoreNotFound(err) == nil {
		return refuse("there is no Service " + name.String()), nil
	}
	return condition, err
}

func accepted(one *pool, byRoute bool) metav1.Condition {
	condition := metav1.Condition{
		Type: "Accepted", Status: metav1.ConditionTrue, Reason: "Accepted",
		ObservedGeneration: one.Generation,
	}
	switch {
	case one.Spec.EndpointPickerRef == nil:
		condition.Status, condition.Reason = metav1.ConditionFalse, "EndpointPickerRefMissing"
	case !byRoute:
		condition.Status, condition.Reason = metav1.ConditionFalse, "HTTPRouteNotAccepted"
	}
	return condition
}

// parent is a Gateway with a route to a pool.
type parent struct {
	ref      parentRef
	accepted bool
}

// gatewaysOf are the Gateways of Envoy Gateway that have a route to a pool.
func gatewaysOf(one *pool, routes []gatewayv1.HTTPRoute) []parent {
	var found []parent
	for i := range routes {
		if !refersTo(&routes[i], one.key()) {
			continue
		}
		for _, status := range routes[i].Status.Parents {
			if status.ControllerName != gatewayController {
				continue
			}
			ref := parentRef{
				Group:     gatewayv1.GroupName,
				Kind:      "Gateway",
				Namespace: string(ptr.Deref(status.ParentRef.Namespace, gatewayv1.Namespace(routes[i].Namespace))),
				Name:      string(status.ParentRef.Name),
			}
			byRoute := meta.IsStatusConditionTrue(status.Conditions, string(gatewayv1.RouteConditionAccepted))
			if known := slices.IndexFunc(found, func(p parent) bool { return p.ref == ref }); known >= 0 {
				found[known].accepted = found[known].accepted || byRoute
			} else {
				found = append(found, parent{ref, byRoute})
			}
		}
	}
	return found
}

func refersTo(one *gatewayv1.HTTPRoute, pool types.NamespacedName) bool {
	return slices.ContainsFunc(one.Spec.Rules, func(rule gatewayv1.HTTPRouteRule) bool {
		return slices.ContainsFunc(rule.BackendRefs, func(ref gatewayv1.HTTPBackendRef) bool {
			key, isPool := poolOf(ref.BackendObjectReference, one.Namespace)
			return isPool && key == pool
		})
	})
}
