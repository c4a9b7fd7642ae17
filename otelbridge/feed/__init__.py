"""RECEIVE: keeps the subscriptions to KubeArmor open and hands on raw event bytes. Only this room dials KubeArmor."""
