"""verl's transfer queue as a dict in this process: what is stored of a key, its tag, and every call."""

from collections import defaultdict


class FakeQueue:
    """rows: partition -> key -> {field: value}. tags: partition -> key -> tag. calls: (name, partition, keys)."""

    def __init__(self, monkeypatch):
        import transfer_queue as tq

        self.rows, self.tags = defaultdict(dict), defaultdict(dict)
        self.calls = []
        for name in ("kv_batch_put", "kv_batch_get", "kv_list", "kv_clear", "async_kv_batch_get", "async_kv_put"):
            monkeypatch.setattr(tq, name, getattr(self, name))

    def kv_batch_put(self, keys, partition_id, fields=None, tags=None):
        self.calls.append(("put", partition_id, list(keys)))
        for place, key in enumerate(keys):
            self.tags[partition_id].setdefault(key, {}).update(tags[place] if tags else {})
            row = self.rows[partition_id].setdefault(key, {})
            row.update({name: fields[place].get(name) for name in (fields.keys() if fields is not None else ())})

    def kv_batch_get(self, keys, partition_id, select_fields):
        from fst_verl.compat import names

        self.calls.append(("get", partition_id, list(keys)))
        found = [self.rows[partition_id][key] for key in keys if key in self.rows[partition_id]]
        if not found:
            raise ValueError("keys or partition were not found!")
        rows = {name: [getattr(one[name], "data", one[name]) for one in found] for name in select_fields}
        return _batch(names.tensordict_utils, rows)

    def kv_list(self, partition_id=None):
        self.calls.append(("list", partition_id, []))
        known = [partition_id] if partition_id in self.tags else [] if partition_id else list(self.tags)
        return {name: {key: dict(tag) for key, tag in self.tags[name].items()} for name in known}

    def kv_clear(self, keys, partition_id):
        self.calls.append(("clear", partition_id, list(keys)))
        for key in keys:
            self.tags[partition_id].pop(key, None)
            self.rows[partition_id].pop(key, None)

    async def async_kv_batch_get(self, keys, partition_id, select_fields):
        return self.kv_batch_get(keys, partition_id, select_fields)

    async def async_kv_put(self, key, partition_id, tag):
        self.kv_batch_put([key], partition_id, tags=[tag])


def _batch(utils, rows):
    import torch

    def of(values):
        if isinstance(values[0], torch.Tensor):
            return torch.nested.as_nested_tensor(values, layout=torch.jagged)
        return values

    return utils.get_tensordict({name: of(values) for name, values in rows.items()})
