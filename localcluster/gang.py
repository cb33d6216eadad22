"""The setting `gang=api-only`: the API is served, but pods lose the field that joins a group.

Real clusters get there with API servers of different versions or gates side by side, where the
older one drops what it does not know. One API server cannot do it by its gate: with the gate off
it serves no groups either. So an admission policy takes the field away, as silently.
"""

DROP_FIELD = """\
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicy
metadata:
  name: drop-scheduling-group
spec:
  failurePolicy: Fail
  reinvocationPolicy: IfNeeded
  matchConstraints:
    resourceRules:
    - apiGroups: [""]
      apiVersions: ["v1"]
      operations: ["CREATE"]
      resources: ["pods"]
  matchConditions:
  - name: has-group
    expression: has(object.spec.schedulingGroup)
  mutations:
  - patchType: JSONPatch
    jsonPatch:
      expression: '[JSONPatch{op: "remove", path: "/spec/schedulingGroup"}]'
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicyBinding
metadata:
  name: drop-scheduling-group
spec:
  policyName: drop-scheduling-group
"""
