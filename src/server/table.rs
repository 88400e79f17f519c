//! Things with an id, in the order of their ids: what the daemon knows its callers by.
//!
//! Ids are given in rising order and never again, so that an id that is remembered somewhere names the same thing or nothing.

/// A sorted vector: new ids go to its end, and looking one up halves it.
pub struct Table<T>(Vec<(u64, Box<T>)>);

impl<T> Table<T> {
    pub fn new() -> Table<T> {
        Table(Vec::new())
    }

    /// The id must be higher than all before.
    pub fn insert(&mut self, id: u64, thing: T) {
        debug_assert!(self.0.last().is_none_or(|(last, _)| *last < id));
        self.0.push((id, Box::new(thing)));
    }

    pub fn get(&self, id: u64) -> Option<&T> {
        self.at(id).map(|at| &*self.0[at].1)
    }

    pub fn get_mut(&mut self, id: u64) -> Option<&mut T> {
        self.at(id).map(|at| &mut *self.0[at].1)
    }

    pub fn remove(&mut self, id: u64) {
        if let Some(at) = self.at(id) {
            self.0.remove(at);
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        self.0.iter().map(|(id, thing)| (*id, &**thing))
    }

    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|(_, thing)| &**thing)
    }

    pub fn ids(&self) -> Vec<u64> {
        self.0.iter().map(|(id, _)| *id).collect()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn at(&self, id: u64) -> Option<usize> {
        self.0.binary_search_by_key(&id, |(id, _)| *id).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removed_id_names_nothing() {
        let mut table = Table::new();
        for id in [1, 2, 5] {
            table.insert(id, id * 10);
        }
        table.remove(2);
        table.remove(3);
        assert_eq!((table.get(1), table.get(2), table.get(5)), (Some(&10), None, Some(&50)));
        *table.get_mut(5).unwrap() += 1;
        assert_eq!(table.iter().map(|(id, v)| (id, *v)).collect::<Vec<_>>(), [(1, 10), (5, 51)]);
        assert_eq!((table.ids(), table.len(), table.is_empty()), (vec![1, 5], 2, false));
    }
}
