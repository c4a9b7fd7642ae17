"""RECEIVE: keeps the subscriptions to KubeArmor open and hands on raw event bytes. Nobody else dials KubeArmor."""
